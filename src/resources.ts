import { Cache } from './cache';
import { contains } from './completion';
import { type Completions, type ProfileType, type Range, type Resources } from './types';

/** Gets one of the plugin's resources as parsed JSON. */
export type GetResource = (path: string, params: Record<string, string | number>) => Promise<unknown>;

/** How many values a completion asks for: as many as the plugin gives. */
const LIMIT = 10_000;

/** Ranges that differ by less have the same completions, in milliseconds. */
const RANGE_STEP = 60_000;

/** How many searches in one list are kept. */
const MAX_SEARCHES = 20;

/** A list of values, and the searches within it that it was too long for. */
interface Listed {
  all: Completions;
  searches: Map<string, Promise<Completions>>;
}

/**
 * Asks the plugin's resource handlers, however they are reached. Completions
 * ask once for each label, selector and range, and search in the browser; only
 * a list that was cut is searched by the server.
 */
export function createResources(get: GetResource, now: () => number = Date.now): Resources {
  const types = new Cache<ProfileType[]>(now);
  const texts = new Cache<string[]>(now);
  const lists = new Cache<Listed>(now);

  const params = ({ from, to }: Range, selector?: string) => ({
    start: Math.floor(from),
    end: Math.ceil(to),
    ...(selector && selector !== '{}' && { query: selector }),
  });
  const key = ({ from, to }: Range, ...parts: string[]) =>
    JSON.stringify([Math.floor(from / RANGE_STEP), Math.ceil(to / RANGE_STEP), ...parts]);

  const values = async (range: Range, label: string, selector: string | undefined, search: string) =>
    asCompletions(
      await get('labelValues', { ...params(range, selector), label, limit: LIMIT, ...(search && { search }) }),
      search
    );

  return {
    profileTypes(range) {
      return types.get(key(range), async () => asArray(await get('profileTypes', params(range))).filter(isProfileType));
    },
    labelNames(range, selector = '{}') {
      return texts.get(key(range, 'names', selector), async () =>
        asArray(await get('labelNames', params(range, selector))).filter(isPublicName)
      );
    },
    async labelValues(range, label, selector) {
      return asArray(await get('labelValues', { ...params(range, selector), label })).filter(isString);
    },
    async completeValues(range, label, typed, selector = '{}') {
      const list = await lists.get(key(range, label, selector), async () => ({
        all: await values(range, label, selector, ''),
        searches: new Map<string, Promise<Completions>>(),
      }));
      if (!typed || list.all.more === 0) {
        return within(list.all, typed);
      }
      // What holds "abc" is among what holds "ab", if that is whole.
      for (const [search, found] of list.searches) {
        if (contains(typed, search)) {
          const wider = await found.catch(() => undefined);
          if (wider && (wider.more === 0 || search === typed)) {
            return within(wider, typed);
          }
        }
      }
      const found = values(range, label, selector, typed);
      if (list.searches.size >= MAX_SEARCHES) {
        list.searches.clear();
      }
      list.searches.set(typed, found);
      found.catch(() => list.searches.delete(typed));
      return found;
    },
  };
}

function within({ values, more }: Completions, typed: string): Completions {
  return { values: typed ? values.filter((value) => contains(value, typed)) : values, more };
}

/** A server's answer; an older plugin gives a plain list, whole and not searched. */
function asCompletions(answer: unknown, search: string): Completions {
  if (Array.isArray(answer)) {
    return within({ values: answer.filter(isString), more: 0 }, search);
  }
  const { values, more } = (answer ?? {}) as Partial<Record<keyof Completions, unknown>>;
  return { values: asArray(values).filter(isString), more: typeof more === 'number' ? more : 0 };
}

function asArray(answer: unknown): unknown[] {
  return Array.isArray(answer) ? answer : [];
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

/** Leaves out labels such as __period_unit__, which follow from the type. */
function isPublicName(value: unknown): value is string {
  return isString(value) && !value.startsWith('__');
}

function isProfileType(value: unknown): value is ProfileType {
  return typeof value === 'object' && value !== null && 'id' in value && isString(value.id);
}
