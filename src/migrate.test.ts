import { describe, expect, it } from 'vitest';
import { migrateQuery, migrateVariableQuery } from './migrate';
import { DEFAULT_PROFILE_TYPE, QUERY_VERSION } from './types';

describe('migrateQuery', () => {
  it('takes a query of the Pyroscope data source over with every field', () => {
    const pyroscope = {
      refId: 'B',
      datasource: { type: 'grafana-pyroscope-datasource', uid: 'p' },
      queryType: 'metrics' as const,
      profileTypeId: 'memory:inuse_space:bytes:space:bytes',
      labelSelector: '{service_name="a"}',
      groupBy: ['pod'],
      limit: 10,
      maxNodes: 500,
      spanSelector: ['9a517183f26a089d'],
      profileIdSelector: ['7c9e6679-7425-40de-944b-e07fc1f90ae7'],
      annotations: true,
      includeExemplars: true,
      includeHeatmap: true,
      heatmapType: 'span',
      traceSelector: ['a field of a later version'],
      hide: true,
    };
    expect(migrateQuery(pyroscope)).toEqual({ ...pyroscope, version: QUERY_VERSION });
  });

  it('completes an empty query', () => {
    expect(migrateQuery({ refId: 'A' })).toEqual({
      refId: 'A',
      version: QUERY_VERSION,
      queryType: 'both',
      profileTypeId: DEFAULT_PROFILE_TYPE,
      labelSelector: '{}',
      groupBy: [],
    });
  });

  it('keeps a comparison that was written by hand, without a version', () => {
    const baseline = { kind: 'offset' as const, offset: '1d' };
    expect(migrateQuery({ refId: 'A', queryType: 'comparison', baseline })).toMatchObject({
      version: QUERY_VERSION,
      queryType: 'comparison',
      baseline,
    });
  });

  it('keeps a current query as it is', () => {
    const query = { refId: 'A', version: QUERY_VERSION, profileTypeId: '', labelSelector: '' };
    expect(migrateQuery(query)).toBe(query);
  });
});

describe('migrateVariableQuery', () => {
  it.each([
    [{ refId: 'v', type: 'labelValue', labelName: 'pod', profileTypeId: 't' }, { refId: 'v', kind: 'labelValues', label: 'pod', profileTypeId: 't' }],
    [{ refId: 'v', type: 'label' }, { refId: 'v', kind: 'labelNames' }],
    [{ refId: 'v', type: 'profileType' }, { refId: 'v', kind: 'profileTypes' }],
    [{ refId: 'v', kind: 'labelNames' as const }, { refId: 'v', kind: 'labelNames' }],
    ['', { refId: 'variable', kind: 'labelValues' }],
    [undefined, { refId: 'variable', kind: 'labelValues' }],
  ])('reads %j', (stored, expected) => {
    expect(migrateVariableQuery(stored)).toEqual(expected);
  });
});
