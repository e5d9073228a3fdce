import { expect, it } from 'vitest';
import { countsCPUTime, paletteOf, profileTypeName, profileTypeOptions } from './profileType';

const CPU = 'process_cpu:cpu:nanoseconds:cpu:nanoseconds';

it.each([
  [CPU, 'CPU time'],
  ['memory:inuse_space:bytes:space:bytes', 'Memory: bytes in use'],
  ['queue:depth:items:time:seconds', 'queue: depth (items)'],
  ['a%3Ab:50%:%7Bc%20%25%7D::', 'a:b: 50% ({c %})'],
  ['$type', '$type'],
])('calls %s %s', (id, name) => {
  expect(profileTypeName(id)).toBe(name);
});

it.each([
  [CPU, 'hot'],
  ['wall:wall:nanoseconds::', 'hot'],
  ['off_cpu:off_cpu:nanoseconds::', 'cold'],
  ['off_cpu:blocks:count::', 'cold'],
  ['mutex:contentions:count:contentions:count', 'cold'],
  ['memory:inuse_objects:count:space:bytes', 'green'],
  ['page_faults:page_faults:bytes:page_faults:bytes', 'green'],
])('draws %s in %s colours', (id, palette) => {
  expect(paletteOf(id)).toBe(palette);
});

it('lists well-known types first', () => {
  const types = ['zoo:a:count:a:count', 'memory:inuse_space:bytes:space:bytes', CPU].map((id) => ({ id, label: id }));
  expect(profileTypeOptions(types).map(({ label }) => label)).toEqual([
    'CPU time',
    'Memory: bytes in use',
    'zoo: a (count)',
  ]);
});

it('knows which types can be shown in cores', () => {
  expect(countsCPUTime(CPU)).toBe(true);
  expect(countsCPUTime('profile:cpu-time:nanoseconds:wall-time:nanoseconds')).toBe(true);
  expect(countsCPUTime('process_cpu:cpu:ns:cpu:ns')).toBe(true);
  expect(countsCPUTime('process_cpu:samples:count:cpu:nanoseconds')).toBe(false);
  expect(countsCPUTime('process_cpu:cpu:count:cpu:nanoseconds')).toBe(false);
  expect(countsCPUTime('off_cpu:off_cpu:nanoseconds::')).toBe(false);
});
