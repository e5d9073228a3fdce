import { describe, expect, it } from 'vitest';
import {
  DEFAULT_STATE,
  formatState,
  fromRaw,
  isLive,
  type PageState,
  parseState,
  resolveRange,
  sharedState,
  showView,
} from './urlState';

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
      queryType: 'profile',
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
    queryType: 'profile' as const,
    refresh: '',
    theme: 'light' as const,
    notice: 'ü',
  };
  expect(parseState(formatState(state))).toEqual(state);
  expect(formatState(DEFAULT_STATE)).toBe('?from=now-15m&to=now');
});

describe('views in the URL', () => {
  it.each<[string, Partial<PageState>]>([
    ['a comparison', { queryType: 'comparison', baseline: { kind: 'previous' }, unit: 'cores', maxNodes: 500 }],
    ['an offset', { queryType: 'explain', baseline: { kind: 'offset', offset: '2h30m' }, limit: 5 }],
    ['a range', { queryType: 'comparison', baseline: { kind: 'range', from: 'now-2d', to: 'now-1d' } }],
    ['labels', { queryType: 'comparison', baseline: { kind: 'same', labelSelector: '{version="1&2"}' } }],
    ['options of the flame graph', { view: { focus: 'a|b&c', fold: ['go-runtime'], maxDepth: 3, reverse: true } }],
    ['a heat map', { queryType: 'heatmap', heatmap: 'offset', rows: 25, step: '5s' }],
    ['functions', { queryType: 'functions', sort: 'total', limit: 1000 }],
    ['functions over time', { queryType: 'functionSeries', functions: ['a<b, c>', 'd&e'], groupBy: ['pod', 'node'], step: '1m' }],
  ])('keeps %s', (_, change) => {
    const state = { ...DEFAULT_STATE, ...change };
    expect(parseState(formatState(state))).toEqual(state);
  });

  it.each([
    'queryType=both&limit=-1&maxNodes=x&sort=up&baseline=never&functions=&step=',
    'queryType=annotations',
    'baselineOffset=1d',
  ])('leaves out what it does not know: %s', (search) => {
    expect(parseState(`?${search}`)).toEqual(DEFAULT_STATE);
  });
});

describe('showView', () => {
  it('gives a comparison a baseline, and keeps one that was chosen', () => {
    expect(showView(DEFAULT_STATE, 'explain')).toEqual({
      queryType: 'explain',
      limit: undefined,
      baseline: { kind: 'previous' },
    });
    const offset = { kind: 'offset', offset: '1w' } as const;
    expect(showView({ ...DEFAULT_STATE, baseline: offset }, 'comparison').baseline).toEqual(offset);
    expect(showView(DEFAULT_STATE, 'functions')).not.toHaveProperty('baseline');
  });

  it('keeps the number of rows within a view alone', () => {
    const state: PageState = { ...DEFAULT_STATE, queryType: 'functions', limit: 500 };
    expect(showView(state, 'functions')).not.toHaveProperty('limit');
    expect(showView(state, 'functionSeries')).toHaveProperty('limit', undefined);
  });
});

describe('sharedState', () => {
  const now = Date.UTC(2026, 10, 23, 12);

  it('fixes relative times, and leaves out what is of the sender', () => {
    const state: PageState = { ...DEFAULT_STATE, from: 'now-1h', refresh: '', theme: 'dark', queryType: 'functions' };
    expect(formatState(sharedState(state, now))).toBe(`?from=${now - 3600e3}&to=${now}&queryType=functions`);
  });

  it('fixes the times of a baseline', () => {
    const baseline = { kind: 'range', from: 'now-2h', to: '2026-11-23T11:00:00Z' } as const;
    const state: PageState = { ...DEFAULT_STATE, from: '1000', to: '2000', queryType: 'explain', baseline };
    const shared = sharedState(state, now);
    expect([shared.from, shared.to]).toEqual(['1000', '2000']);
    expect(shared.baseline).toEqual({ kind: 'range', from: String(now - 7200e3), to: '2026-11-23T11:00:00Z' });
  });
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
