import {
  CoreApp,
  type DataQueryRequest,
  type DataSourceApi,
  type DataSourceInstanceSettings,
  dateTime,
  hasQueryImportSupport,
} from '@grafana/data';
import { DataSourceWithBackend, type TemplateSrv } from '@grafana/runtime';
import { firstValueFrom, of } from 'rxjs';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ProfileDataSource } from './datasource';
import { templates } from './test/templates';
import { DEFAULT_PROFILE_TYPE, type DataSourceOptions, type ProfileQuery } from './types';

const settings = {
  id: 1,
  uid: 'f',
  type: 'flameline-profiles-datasource',
  name: 'Flameline',
  jsonData: {},
} as DataSourceInstanceSettings<DataSourceOptions>;

const vars = templates({ service: { value: ['a', 'b'] }, label: { value: 'pod' } });
const range = { from: dateTime(1000), to: dateTime(2000), raw: { from: 'now-1h', to: 'now' } };

/** The answers of the plugin's resources, by path. */
let answers: Record<string, unknown>;
let asked: Array<[string, unknown]>;
let datasource: ProfileDataSource;

beforeEach(() => {
  answers = {};
  asked = [];
  datasource = new ProfileDataSource(settings, vars as TemplateSrv);
  vi.spyOn(datasource, 'getResource').mockImplementation(async (path: string, params?: unknown) => {
    asked.push([path, params]);
    return answers[path];
  });
});

describe('queries', () => {
  it('migrates, interpolates and filters what it sends', () => {
    const query = { refId: 'A', profileTypeId: DEFAULT_PROFILE_TYPE, labelSelector: '{service_name="$service"}' };
    const sent = datasource.applyTemplateVariables(query, {}, [{ key: 'pod', operator: '=', value: 'p' }]);
    expect(sent).toMatchObject({ version: 1, queryType: 'both', labelSelector: '{service_name=~"a|b", pod="p"}' });
  });

  it('has a default for each place', () => {
    expect(datasource.getDefaultQuery(CoreApp.Explore).queryType).toBe('both');
    expect(datasource.getDefaultQuery(CoreApp.PanelEditor).queryType).toBe('profile');
    expect(datasource.getDefaultQuery(CoreApp.UnifiedAlerting).queryType).toBe('metrics');
  });

  it('does not run a hidden query or one without a profile type', () => {
    const query = { refId: 'A', version: 1, profileTypeId: DEFAULT_PROFILE_TYPE, labelSelector: '{}' };
    expect(datasource.filterQuery(query)).toBe(true);
    expect(datasource.filterQuery({ ...query, hide: true })).toBe(false);
    expect(datasource.filterQuery({ ...query, profileTypeId: '' })).toBe(false);
  });

  it('asks nothing if the profile type is a variable without a value', async () => {
    const withType = (value: string) => new ProfileDataSource(settings, templates({ type: { value } }) as TemplateSrv);
    const target = { refId: 'A', version: 1, profileTypeId: '$type', labelSelector: '{}' };
    const sent = vi.spyOn(DataSourceWithBackend.prototype, 'query').mockReturnValue(of({ data: [] }));
    for (const value of ['', DEFAULT_PROFILE_TYPE]) {
      await firstValueFrom(withType(value).query({ targets: [target], scopedVars: {} } as unknown as DataQueryRequest<ProfileQuery>));
    }
    expect(sent.mock.calls.map(([request]) => request.targets)).toEqual([[], [target]]);
    sent.mockRestore();
  });

  it('filters for and out', () => {
    const query = { refId: 'A', profileTypeId: 't', labelSelector: '{a="1", b!="2"}' };
    const modify = (type: string, key: string, value: string) =>
      datasource.modifyQuery(query, { type, options: { key, value } }).labelSelector;
    expect(modify('ADD_FILTER', 'b', '2')).toBe('{a="1", b="2"}');
    expect(modify('ADD_FILTER_OUT', 'c', '3')).toBe('{a="1", b!="2", c!="3"}');
  });

  it('filters both sides of a comparison', () => {
    const query = { refId: 'A', profileTypeId: 't', labelSelector: '{a="1"}' };
    const action = { type: 'ADD_FILTER', options: { key: 'pod', value: 'p' } };
    expect(datasource.modifyQuery({ ...query, baseline: { kind: 'same', labelSelector: '{a="2"}' } }, action)).toEqual({
      ...query,
      labelSelector: '{a="1", pod="p"}',
      baseline: { kind: 'same', labelSelector: '{a="2", pod="p"}' },
    });
    expect(datasource.modifyQuery({ ...query, baseline: { kind: 'previous' } }, action).baseline).toEqual({
      kind: 'previous',
    });
  });

  it('says what a query is about', () => {
    const query = { refId: 'A', profileTypeId: DEFAULT_PROFILE_TYPE, labelSelector: '{a="1"}' };
    expect(datasource.getQueryDisplayText(query)).toBe('CPU time {a="1"}');
  });
});

describe('annotations', () => {
  const annotation = (target?: ProfileQuery) => ({ name: 'kills', enable: true, iconColor: 'red', target });

  it('ask for processes that were killed for lack of memory by default', () => {
    const target = datasource.annotations?.prepareQuery?.(annotation());
    expect(target).toMatchObject({ queryType: 'annotations', profileTypeId: 'oom:kills:count::', labelSelector: '{}' });
  });

  it('are of their query type whatever is stored', () => {
    const stored = { refId: 'A', queryType: 'metrics' as const, profileTypeId: 't', labelSelector: '{a="1"}' };
    const target = datasource.annotations?.prepareQuery?.(annotation(stored));
    expect(target).toMatchObject({ refId: 'A', queryType: 'annotations', profileTypeId: 't', labelSelector: '{a="1"}' });
  });
});

describe('variables', () => {
  it('lists label values of the series that match', async () => {
    answers['labelValues'] = ['x', 'y'];
    const query = { kind: 'labelValues' as const, label: '$label', labelSelector: '{service_name=~"$service"}' };
    expect(await datasource.metricFindQuery(query, { range })).toEqual([
      { text: 'x', value: 'x' },
      { text: 'y', value: 'y' },
    ]);
    expect(asked).toEqual([
      ['labelValues', { start: 1000, end: 2000, query: '{service_name=~"a|b"}', label: 'pod' }],
    ]);
  });

  it('lists label names but those that follow from the type, and versions first', async () => {
    answers['labelNames'] = ['__period_unit__', 'pod', 'service_version'];
    const listed = await datasource.metricFindQuery({ kind: 'labelNames' }, { range });
    expect(listed.map(({ value }) => value)).toEqual(['service_version', 'pod']);
  });

  it('lists profile types by their names', async () => {
    answers['profileTypes'] = [{ id: DEFAULT_PROFILE_TYPE, label: 'process_cpu - cpu' }];
    expect(await datasource.metricFindQuery({ kind: 'profileTypes' }, { range })).toEqual([
      { text: 'CPU time', value: DEFAULT_PROFILE_TYPE },
    ]);
  });

  it('answers through the support class, with the variable of a dashboard', async () => {
    answers['labelNames'] = ['pod'];
    const request = { targets: [{ refId: 'v', type: 'label' }], range, scopedVars: {} };
    const { variables } = datasource;
    const response = await firstValueFrom(
      (variables as unknown as { query: (r: unknown) => Parameters<typeof firstValueFrom>[0] }).query(request)
    );
    expect(response).toEqual({ data: [{ text: 'pod', value: 'pod' }] });
  });
});

describe('ad hoc filters', () => {
  const filters = [
    { key: 'pod', operator: '=', value: 'p' },
    { key: 'node', operator: '=', value: 'n' },
  ];

  it('completes names among the series that the other filters leave', async () => {
    answers['labelNames'] = ['pod', 'node'];
    await datasource.getTagKeys({ filters, timeRange: range });
    expect(asked).toEqual([['labelNames', { start: 1000, end: 2000, query: '{pod="p", node="n"}' }]]);
  });

  it('completes values without the filter that is being changed', async () => {
    answers['labelValues'] = ['n'];
    expect(await datasource.getTagValues({ key: 'node', filters, timeRange: range })).toEqual([{ text: 'n', value: 'n' }]);
    expect(asked).toEqual([['labelValues', { start: 1000, end: 2000, query: '{pod="p"}', label: 'node' }]]);
  });
});

describe('switching data sources', () => {
  const prometheus = {
    type: 'prometheus',
    exportToAbstractQueries: async () => [{ refId: 'A', labelMatchers: [{ name: 'team', value: 'x', operator: 'Equal' }] }],
  } as unknown as DataSourceApi;

  it('keeps the labels that the server has', async () => {
    answers['labelNames'] = ['service_name', 'team'];
    const expr = 'sum by (team) (rate(process_cpu_seconds_total{team="x"}[1m]))';
    const [query] = await datasource.importQueries([{ refId: 'A', ...{ expr } }], prometheus);
    expect(query).toMatchObject({ labelSelector: '{team="x"}', groupBy: ['team'] });
  });

  it('works while the server does not answer', async () => {
    vi.spyOn(datasource, 'getResource').mockRejectedValue(new Error('down'));
    const [query] = await datasource.importQueries([{ refId: 'A' }], prometheus);
    expect(query?.labelSelector).toBe('{}');
  });

  it('takes queries of the Pyroscope data source over whole, as Grafana asks for it', async () => {
    const stored = {
      refId: 'B',
      queryType: 'metrics',
      profileTypeId: 'memory:inuse_space:bytes:space:bytes',
      labelSelector: '{service_name="$service"}',
      groupBy: ['pod'],
      limit: 5,
      annotations: true,
      includeExemplars: true,
      profileIdSelector: ['7c9e6679-7425-40de-944b-e07fc1f90ae7'],
    };
    const pyroscope = { type: 'grafana-pyroscope-datasource', exportToAbstractQueries: vi.fn() } as unknown as DataSourceApi;
    // Grafana prefers labels to queries where both data sources offer them.
    expect(hasQueryImportSupport(datasource)).toBe(false);
    expect(await datasource.importQueries([stored], pyroscope)).toEqual([{ ...stored, version: 1 }]);
  });

  it('takes nothing over from a source whose queries it cannot read', async () => {
    expect(await datasource.importQueries([{ refId: 'A' }], { type: 'loki' } as DataSourceApi)).toEqual([]);
  });
});
