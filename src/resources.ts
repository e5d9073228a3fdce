import { type ProfileType, type Range, type Resources } from './types';

/** Gets one of the plugin's resources as parsed JSON. */
export type GetResource = (path: string, params: Record<string, string | number>) => Promise<unknown>;

/** Asks the plugin's resource handlers, however they are reached. */
export function createResources(get: GetResource): Resources {
  const params = ({ from, to }: Range, selector?: string) => ({
    start: Math.floor(from),
    end: Math.ceil(to),
    ...(selector && selector !== '{}' && { query: selector }),
  });
  return {
    async profileTypes(range) {
      return asArray(await get('profileTypes', params(range))).filter(isProfileType);
    },
    async labelNames(range, selector) {
      return asArray(await get('labelNames', params(range, selector))).filter(isPublicName);
    },
    async labelValues(range, label, selector) {
      return asArray(await get('labelValues', { ...params(range, selector), label })).filter(isString);
    },
  };
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
