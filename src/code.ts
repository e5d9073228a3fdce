import { t } from '@grafana/i18n';
import { completeFound, contains, isNote } from './completion';
import { profileTypeName, profileTypeOptions } from './profileType';
import { escapeRegex, formatSelector, type Matcher, parseSelector, quote, SelectorError, tryParseSelector } from './selector';
import { type ProfileQuery, type ProfileType, type Range, type Resources } from './types';
import { UNESCAPED } from './unescaped';

/**
 * A query as text: a profile type and matchers, such as
 * process_cpu:cpu{namespace="shop", pod=~"api-.*"}. The type is the first two
 * parts of its ID where no other type of the range has them, or all five.
 */
export type Code = Pick<ProfileQuery, 'profileTypeId' | 'labelSelector'>;

/** Where the matchers begin: at the first brace, but for those of ${variable}. */
function braceOf(text: string): number {
  const at = text.search(/(?<!\$)\{/);
  return at < 0 ? text.length : at;
}

/** The text of a query. */
export function formatCode({ profileTypeId, labelSelector }: Code, types: ProfileType[]): string {
  const short = profileTypeId.split(':').slice(0, 2).join(':');
  const alike = types.filter(({ id }) => id.startsWith(`${short}:`));
  const type = alike.length === 1 && alike[0]?.id === profileTypeId ? short : profileTypeId;
  return type + labelSelector;
}

/**
 * Reads the text of a query.
 *
 * @param types those of the range, of which the text may have a short one
 * @throws Error that says what is wrong
 */
export function parseCode(text: string, types: ProfileType[]): Code {
  const brace = braceOf(text);
  const type = text.slice(0, brace).trim();
  const labelSelector = text.slice(brace).trim() || '{}';
  // A variable may stand for more than a value: that is known when it is replaced.
  if (!labelSelector.includes('$')) {
    try {
      parseSelector(labelSelector);
    } catch (err) {
      throw err instanceof SelectorError ? err.movedBy(brace) : err;
    }
  }
  return { profileTypeId: resolveType(type, types), labelSelector };
}

function resolveType(type: string, types: ProfileType[]): string {
  if (type === '') {
    throw new Error(t('code.no-type', 'A query begins with a profile type, such as process_cpu:cpu{}'));
  }
  const parts = type.split(':').length;
  if (type.includes('$') || parts === 5) {
    return type;
  }
  const alike = types.filter(({ id }) => id === type || id.startsWith(`${type}:`));
  const [found] = alike;
  if (found && alike.length === 1) {
    return found.id;
  }
  throw new Error(
    found
      ? t('code.several-types', 'There are {{number}} profile types {{type}}: write all parts, such as {{example}}', {
          number: alike.length,
          type,
          example: found.id,
          interpolation: UNESCAPED,
        })
      : t('code.unknown-type', 'There is no profile type {{type}} in this time range', { type, interpolation: UNESCAPED })
  );
}

/** A text that may replace the part of a query's text from from to to. */
export interface Suggestion {
  label: string;
  description?: string;
  insert: string;
}

export interface Suggestions {
  from: number;
  to: number;
  list: Suggestion[];
  /** How many further values there are. */
  more?: string;
}

/** What may stand at a place of a query's text. */
type Place =
  | { kind: 'type' | 'name'; from: number; to: number; typed: string; before: Matcher[] }
  | { kind: 'value'; from: number; to: number; typed: string; before: Matcher[]; name: string; regex: boolean };

const TOKEN =
  /(?<space>\s+)|(?<string>"(?:[^"\\]|\\[^])*"?|'(?:[^'\\]|\\[^])*'?|`[^`]*`?)|(?<op>=~|!~|!=|=)|(?<comma>,)|(?<word>[^\s=!,{}"'`]+)|[^]/g;

/** Finds what is being typed at a position, or undefined where nothing can be completed. */
export function placeAt(text: string, position: number): Place | undefined {
  const brace = braceOf(text);
  if (position <= brace) {
    return { kind: 'type', from: 0, to: brace, typed: text.slice(0, position).trim(), before: [] };
  }
  let name = '';
  let op = '';
  let due: 'name' | 'op' | 'value' | 'comma' = 'name';
  let matcherAt = brace + 1;
  const before = () => tryParseSelector(`${text.slice(brace, matcherAt).replace(/,\s*$/, '')}}`) ?? [];
  for (const { 0: token, index, groups = {} } of text.slice(brace + 1).matchAll(TOKEN)) {
    const from = brace + 1 + index;
    const to = from + token.length;
    if (from >= position) {
      break;
    }
    const here = position <= to;
    if (groups.space !== undefined) {
      continue;
    }
    if (groups.comma !== undefined) {
      [name, op, due, matcherAt] = ['', '', 'name', to];
    } else if (due === 'name' && (groups.word !== undefined || groups.string !== undefined)) {
      if (here) {
        return { kind: 'name', from, to, typed: text.slice(from, position).replace(/^["']/, ''), before: before() };
      }
      name = groups.string !== undefined ? token.slice(1, -1) : token;
      due = 'op';
    } else if (due === 'op' && groups.op !== undefined) {
      op = token;
      due = 'value';
    } else if (due === 'value' && groups.string !== undefined) {
      const closed = token.length > 1 && token.endsWith(token.charAt(0));
      if (here && !(closed && position === to)) {
        return value(from, to, text.slice(from + 1, position));
      }
      due = 'comma';
    } else if (due === 'value' && groups.word !== undefined && here) {
      return value(from, to, text.slice(from, position));
    } else {
      return undefined;
    }
  }
  if (due === 'value') {
    return value(position, position, '');
  }
  return due === 'name' ? { kind: 'name', from: position, to: position, typed: '', before: before() } : undefined;

  function value(from: number, to: number, typed: string): Place {
    return { kind: 'value', from, to, typed, before: before(), name, regex: op.endsWith('~') };
  }
}

/** The completions at a position of a query's text, within a time range. */
export async function suggest(
  text: string,
  position: number,
  range: Range,
  resources: Resources
): Promise<Suggestions | undefined> {
  const place = placeAt(text, position);
  if (!place) {
    return undefined;
  }
  const { from, to, typed } = place;
  const selector = formatSelector(place.before);
  switch (place.kind) {
    case 'type': {
      const types = await resources.profileTypes(range);
      const braces = text.length === to ? '{}' : '';
      const list = profileTypeOptions(types)
        .map(({ value }) => ({
          label: formatCode({ profileTypeId: value, labelSelector: '' }, types),
          description: profileTypeName(value),
        }))
        .filter(({ label, description }) => contains(label, typed) || contains(description, typed))
        .map((option) => ({ ...option, insert: option.label + braces }));
      return { from, to, list };
    }
    case 'name': {
      const names = await resources.labelNames(range, selector);
      const list = names
        .filter((name) => contains(name, typed))
        .map((name) => ({ label: name, insert: /^\w+$/.test(name) ? name : quote(name) }));
      return { from, to, list };
    }
    case 'value': {
      // Of alternatives, the last one is being typed.
      const kept = place.regex ? typed.slice(0, typed.lastIndexOf('|') + 1) : '';
      const found = completeFound(await resources.completeValues(range, place.name, typed.slice(kept.length), selector));
      const list = found
        .filter(({ value }) => !isNote(value))
        .map(({ value }) => ({
          label: value,
          insert: place.regex ? `"${kept}${quote(escapeRegex(value)).slice(1)}` : quote(value),
        }));
      return { from, to, list, more: found.find(({ value }) => isNote(value))?.label };
    }
  }
}
