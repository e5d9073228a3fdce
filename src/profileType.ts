import { type ProfileType } from './types';

/** What people call the profile types of well-known sources, by `name:sample_type`. */
const NAMES: Record<string, string> = {
  'process_cpu:cpu': 'CPU time',
  'process_cpu:samples': 'CPU samples',
  'off_cpu:time': 'Off-CPU time',
  'off_cpu:off_cpu': 'Off-CPU time',
  'off_cpu:blocks': 'Off-CPU: waits',
  'page_faults:page_faults': 'Memory: bytes of page faults',
  'oom:kills': 'Memory: kills for lack of memory',
  'wall:wall': 'Wall-clock time',
  'memory:alloc_objects': 'Memory: objects allocated',
  'memory:alloc_space': 'Memory: bytes allocated',
  'memory:inuse_objects': 'Memory: objects in use',
  'memory:inuse_space': 'Memory: bytes in use',
  'memory:alloc_in_new_tlab_objects': 'Memory: objects allocated in new TLABs',
  'memory:alloc_in_new_tlab_bytes': 'Memory: bytes allocated in new TLABs',
  'goroutine:goroutine': 'Goroutines',
  'goroutines:goroutine': 'Goroutines',
  'block:contentions': 'Blocking: times blocked',
  'block:delay': 'Blocking: time blocked',
  'mutex:contentions': 'Locks: times contended',
  'mutex:delay': 'Locks: time waited',
};

/**
 * A part of an ID as its sender wrote it: characters that would end the part stand
 * in it as % and two digits (pkg/profile/type.go).
 */
function unescapePart(part: string): string {
  return part.replace(/(?:%[0-9A-F]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}

/** A profile type for people; its ID's own words where it is not well known. */
export function profileTypeName(id: string): string {
  const [name = '', sampleType = '', unit = ''] = id.split(':').map(unescapePart);
  return NAMES[`${name}:${sampleType}`] ?? (sampleType ? `${name}: ${sampleType} (${unit})` : id);
}

/** Whether flame graphs of a type can be shown in cores: it counts CPU time. */
export function countsCPUTime(id: string): boolean {
  return /^[^:]*:cpu([-_ ]?time)?:(ns|us|µs|ms|s|(nano|micro|milli)?seconds?):/i.test(id);
}

/** Colours of flame graphs, as SVG and HTML files have them. */
export type Palette = 'hot' | 'cold' | 'green';

/**
 * The colours for a type: cold ones for times that threads wait, green for memory, and
 * hot ones for all else. The same rules as in pkg/profile/palette.go.
 */
export function paletteOf(id: string): Palette {
  const [name = '', sampleType = '', unit = ''] = id.split(':').map(unescapePart);
  if (/^(bytes?|[kmgt]i?b)$/i.test(unit) || /^(alloc|inuse)_/.test(sampleType)) {
    return 'green';
  }
  const waits = ['off_cpu', 'block', 'mutex'].includes(name) || ['off_cpu', 'lock_time', 'lock_count'].includes(sampleType);
  return waits ? 'cold' : 'hot';
}

/**
 * Options of a profile type select, well-known types first. Two types that
 * people call the same are told apart by their ID.
 */
export function profileTypeOptions(types: ProfileType[]): Array<{ value: string; label: string; description: string }> {
  const rank = (id: string) => {
    const at = Object.keys(NAMES).findIndex((key) => id.startsWith(`${key}:`));
    return at < 0 ? Infinity : at;
  };
  return types
    .map(({ id }) => ({ value: id, label: profileTypeName(id), description: id }))
    .sort((a, b) => compare(rank(a.value), rank(b.value)) || a.value.localeCompare(b.value));
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
