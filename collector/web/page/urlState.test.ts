import { describe, expect, it } from 'vitest';
import { DEFAULT_STATE, formatState, fromRaw, isLive, parseState, resolveRange } from './urlState';

describe('parseState', () => {
  it('has defaults', () => {
    expect(parseState('')).toEqual(DEFAULT_STATE);
  });

  it('reads a link of the drilldown', () => {
    const search = new URLSearchParams({
      from: '1700000000000',
      to: '1700000600000',
      profileTypeId: 'memory:inuse_space:bytes:space:bytes',
      labelSelector: '{service_name="a&b"}',
      notice: 'pod was left out',
    });
    expect(parseState(`?${search}`)).toEqual({
      from: '1700000000000',
      to: '1700000600000',
      profileTypeId: 'memory:inuse_space:bytes:space:bytes',
      labelSelector: '{service_name="a&b"}',
      refresh: '10s',
      notice: 'pod was left out',
    });
  });

  it.each(['?from=yesterday&to=now', '?from=now&to=now-1h', '?from=5&to=4', '?from=&to='])(
    'shows the last minutes instead of %s',
    (search) => {
      expect(parseState(search)).toEqual(DEFAULT_STATE);
    }
  );

  it('knows two themes and a refresh that is off', () => {
    expect(parseState('?theme=dark').theme).toBe('dark');
    expect(parseState('?theme=blue').theme).toBeUndefined();
    expect(parseState('?refresh=').refresh).toBe('');
  });
});

it('writes what parseState reads', () => {
  const state = {
    from: 'now-1h',
    to: 'now-5m',
    profileTypeId: 'a:b:c:d:e',
    labelSelector: '{x=~"a|b+&="}',
    refresh: '',
    theme: 'light' as const,
    notice: 'ü',
  };
  expect(parseState(formatState(state))).toEqual(state);
  expect(formatState(DEFAULT_STATE)).toBe('?from=now-15m&to=now');
});

describe('time ranges', () => {
  it('resolves relative times now', () => {
    const { from, to, raw } = resolveRange({ from: 'now-15m', to: 'now' });
    expect(to.valueOf() - from.valueOf()).toBe(15 * 60 * 1000);
    expect(raw).toEqual({ from: 'now-15m', to: 'now' });
  });

  it('keeps absolute times', () => {
    const { from, to, raw } = resolveRange({ from: '1000', to: '2000' });
    expect([from.valueOf(), to.valueOf()]).toEqual([1000, 2000]);
    expect(fromRaw(raw)).toEqual({ from: '1000', to: '2000' });
  });

  it('knows which ranges move', () => {
    expect(isLive('now')).toBe(true);
    expect(isLive('1700000000000')).toBe(false);
  });
});
