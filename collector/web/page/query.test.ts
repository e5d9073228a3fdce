import { describe, expect, it } from 'vitest';
import { downloads } from './downloads';
import { profileQuery, sizedQuery } from './query';
import { titleOf } from './title';
import { DEFAULT_STATE, type PageState } from './urlState';

const range = { from: 3_600_000, to: 7_200_000 };
const all: PageState = {
  ...DEFAULT_STATE,
  labelSelector: '{service_name="order"}',
  baseline: { kind: 'offset', offset: '1h', labelSelector: '{version="1"}' },
  unit: 'cores',
  sort: 'total',
  step: '1m',
  maxNodes: 100,
  limit: 7,
  functions: ['main'],
  groupBy: ['pod'],
  heatmap: 'label',
  rows: 25,
};

describe('queries', () => {
  it.each<[PageState['queryType'], string[]]>([
    ['profile', ['maxNodes', 'unit', 'view']],
    ['comparison', ['baseline', 'maxNodes', 'unit', 'view']],
    ['functions', ['baseline', 'limit', 'sort', 'unit']],
    ['functionSeries', ['functions', 'groupBy', 'limit', 'sort', 'step']],
    ['heatmap', ['groupBy', 'heatmap', 'limit', 'rows', 'step']],
    ['explain', ['baseline', 'limit', 'unit']],
  ])('%s has the fields of its query type', (queryType, fields) => {
    const { refId, version, profileTypeId, labelSelector, queryType: type, ...others } = profileQuery({ ...all, queryType });
    expect([refId, version, profileTypeId, labelSelector, type]).toEqual([
      'profile',
      1,
      all.profileTypeId,
      all.labelSelector,
      queryType,
    ]);
    expect(Object.keys(others).sort()).toEqual(fields);
  });

  it('has a limit of nodes for flame graphs, and points for charts', () => {
    expect(sizedQuery(DEFAULT_STATE, 1000, range)).toMatchObject({ maxNodes: 16384, maxDataPoints: 1000 });
    for (const queryType of ['functionSeries', 'heatmap'] as const) {
      expect(sizedQuery({ ...all, queryType }, 1000, range)).toMatchObject({ maxDataPoints: 250, intervalMs: 14_400 });
    }
    expect(sizedQuery({ ...all, queryType: 'functions' }, 1000, range)).not.toHaveProperty('maxNodes');
  });
});

describe('downloads', () => {
  const params = (url: string) => Object.fromEntries(new URL(url, 'http://x').searchParams);

  it('are of the selection', () => {
    const list = downloads(all, range);
    expect(list.map(({ label }) => label)).toEqual(['pprof', 'Folded stacks', 'speedscope', 'SVG', 'HTML', 'Graphviz', 'JSON']);
    expect(list[0]?.url).toMatch(/^render\?/);
    expect(params(list[0]?.url ?? '')).toEqual({
      query: `${all.profileTypeId}{service_name="order"}`,
      from: '3600000',
      until: '7200000',
      format: 'pprof',
    });
  });

  it.each<[string, PageState['baseline'], string, string, string]>([
    ['the window before', undefined, '{service_name="order"}', '1970-01-01T00:00:00.000Z', '1970-01-01T01:00:00.000Z'],
    ['an offset', all.baseline, '{version="1"}', '0', '3600000'],
    ['a range', { kind: 'range', from: 'now-2d', to: 'now-1d' }, '{service_name="order"}', 'now-2d', 'now-1d'],
    ['other labels', { kind: 'same', labelSelector: '{a="b"}' }, '{a="b"}', '3600000', '7200000'],
  ])('compare with %s', (_, baseline, selector, leftFrom, leftUntil) => {
    const list = downloads({ ...all, queryType: 'comparison', baseline }, range);
    expect(list.map(({ label }) => label)).toEqual(['Folded stacks', 'SVG', 'HTML', 'JSON']);
    expect(list[0]?.url).toMatch(/^render-diff\?/);
    expect(params(list[0]?.url ?? '')).toEqual({
      leftQuery: all.profileTypeId + selector,
      leftFrom,
      leftUntil,
      rightQuery: `${all.profileTypeId}{service_name="order"}`,
      rightFrom: '3600000',
      rightUntil: '7200000',
      format: 'collapsed',
    });
  });
});

it('titles say what is compared with what', () => {
  const titles = (['profile', 'comparison', 'functions', 'functionSeries', 'explain'] as const).map((queryType) =>
    titleOf({ ...all, queryType, baseline: { kind: 'previous' } })
  );
  expect(titles).toEqual([
    'CPU time of order',
    'CPU time of order, compared with the window before',
    'CPU time of order by function, compared with the window before',
    'CPU time of order by function over time, total values',
    'What changed in CPU time of order since the window before',
  ]);
  const heatmap = (change: Partial<PageState>) => titleOf({ ...all, queryType: 'heatmap', ...change });
  expect(heatmap({})).toBe('CPU time of order over time by pod');
  expect(heatmap({ groupBy: [] })).toBe('CPU time of order over time by service_name');
  expect(heatmap({ heatmap: 'offset' })).toBe('CPU time of order over time by offset in the second');
});
