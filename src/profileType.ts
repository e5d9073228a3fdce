import { t } from '@grafana/i18n';
import { type ProfileType } from './types';

/** What people call the profile types of well-known sources, by `name:sample_type`. */
const NAMES: Record<string, () => string> = {
  'process_cpu:cpu': () => t('profile-type.cpu-time', 'CPU time'),
  'process_cpu:samples': () => t('profile-type.cpu-samples', 'CPU samples'),
  'off_cpu:time': () => t('profile-type.off-cpu-time', 'Off-CPU time'),
  'off_cpu:off_cpu': () => t('profile-type.off-cpu-time', 'Off-CPU time'),
  'off_cpu:blocks': () => t('profile-type.off-cpu-waits', 'Off-CPU: waits'),
  'page_faults:page_faults': () => t('profile-type.page-faults', 'Memory: bytes of page faults'),
  'oom:kills': () => t('profile-type.oom-kills', 'Memory: kills for lack of memory'),
  'wall:wall': () => t('profile-type.wall-clock-time', 'Wall-clock time'),
  'memory:alloc_objects': () => t('profile-type.objects-allocated', 'Memory: objects allocated'),
  'memory:alloc_space': () => t('profile-type.bytes-allocated', 'Memory: bytes allocated'),
  'memory:inuse_objects': () => t('profile-type.objects-in-use', 'Memory: objects in use'),
  'memory:inuse_space': () => t('profile-type.bytes-in-use', 'Memory: bytes in use'),
  'memory:alloc_in_new_tlab_objects': () => t('profile-type.objects-in-new-tlabs', 'Memory: objects allocated in new TLABs'),
  'memory:alloc_in_new_tlab_bytes': () => t('profile-type.bytes-in-new-tlabs', 'Memory: bytes allocated in new TLABs'),
  'goroutine:goroutine': () => t('profile-type.goroutines', 'Goroutines'),
  'goroutines:goroutine': () => t('profile-type.goroutines', 'Goroutines'),
  'block:contentions': () => t('profile-type.times-blocked', 'Blocking: times blocked'),
  'block:delay': () => t('profile-type.time-blocked', 'Blocking: time blocked'),
  'mutex:contentions': () => t('profile-type.times-contended', 'Locks: times contended'),
  'mutex:delay': () => t('profile-type.time-waited', 'Locks: time waited'),
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
  return NAMES[`${name}:${sampleType}`]?.() ?? (sampleType ? `${name}: ${sampleType} (${unit})` : id);
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
