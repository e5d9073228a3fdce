import { describe, expect, it } from 'vitest';
import { isTime, validateBaseline, windowBefore } from './baseline';
import { type Baseline } from './types';

describe('isTime', () => {
  it.each([
    'now', 'now-1d', 'now-1d/d', 'now - 90m + 30s', '-5s', '6h', '1763899200000', '1763899200', '1763899200.5', '20261123',
    '2026-11-23', '2026-11-23T10:00', '2026-11-23T10:00:00', '2026-11-23T10:00:00.5Z', '2026-11-23T10:00:00+01:00',
  ])('takes %s', (text) => expect(isTime(text)).toBe(true));

  it.each(['', 'yesterday', '2026-11', '2026-13-23', '2026-11-23 10:00', '23.11.2026', '10:00'])('refuses "%s"', (text) =>
    expect(isTime(text)).toBe(false)
  );
});

describe('validateBaseline', () => {
  const query = '{service_name="a", pod="p"}';

  it.each<[Baseline, string[]]>([
    [{ kind: 'previous' }, []],
    [{ kind: 'previous', offset: 'x', from: 'x' }, []],
    [{ kind: 'offset', offset: '1d' }, []],
    [{ kind: 'offset', offset: '$offset' }, []],
    [{ kind: 'offset' }, ['offset']],
    [{ kind: 'offset', offset: 'soon' }, ['offset']],
    [{ kind: 'offset', offset: '0s' }, ['offset']],
    [{ kind: 'range', from: 'now-2d', to: 'now-1d' }, []],
    [{ kind: 'range', from: 1763899200000, to: 1763902800000 }, []],
    [{ kind: 'range', from: '$__from', to: '${to}' }, []],
    [{ kind: 'range' }, ['from', 'to']],
    [{ kind: 'range', from: 'then', to: 'now' }, ['from']],
    [{ kind: 'range', from: '2026-11-23T10:00:00Z', to: '2026-11-23T10:00:00Z' }, ['to']],
    [{ kind: 'range', from: '2026-11-23T10:00:00', to: '2026-11-23T11:30:00+01:00' }, []], // 10:00 and 10:30 UTC
    [{ kind: 'range', from: 1763902800000, to: '2025-11-23T12:00:00Z' }, ['to']], // 13:00 and 12:00 UTC
    [{ kind: 'same', labelSelector: '{service_name="b"}' }, []],
    [{ kind: 'same' }, ['labelSelector']],
    [{ kind: 'same', labelSelector: '{pod="p",service_name="a",}' }, ['labelSelector']],
    [{ kind: 'same', labelSelector: '{$other}' }, []],
  ])('%j', (baseline, fields) => expect(Object.keys(validateBaseline(baseline, query)).sort()).toEqual(fields));

  it('compares selectors that cannot be read as texts', () => {
    expect(validateBaseline({ kind: 'same', labelSelector: ' {$all}' }, '{$all}')).toHaveProperty('labelSelector');
  });
});

describe('windowBefore', () => {
  it('is as long as the range and ends where it begins', () => {
    const hour = 3600_000;
    expect(windowBefore({ from: 10 * hour, to: 12 * hour })).toEqual({
      from: '1970-01-01T08:00:00.000Z',
      to: '1970-01-01T10:00:00.000Z',
    });
  });
});
