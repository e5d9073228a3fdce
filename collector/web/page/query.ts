import { DEFAULT_BASELINE, type ProfileQuery, QUERY_VERSION } from '../../../src/types';
import { type SizedQuery } from './api';
import { type PageState } from './urlState';

/** More than a screen can show: functions are searched for in the table, too. */
const MAX_NODES = 16384;

/** The query of the page's view, as the plugin's editor writes it. */
export function profileQuery(state: PageState): ProfileQuery {
  const { queryType, profileTypeId, labelSelector, baseline, unit, sort, step, limit, functions, groupBy, view, heatmap, rows } =
    state;
  const query = { refId: 'profile', version: QUERY_VERSION, queryType, profileTypeId, labelSelector };
  switch (queryType) {
    case 'profile':
      return { ...query, unit, maxNodes: state.maxNodes, view };
    case 'comparison':
      return { ...query, unit, maxNodes: state.maxNodes, view, baseline: baseline ?? DEFAULT_BASELINE };
    case 'functions':
      return { ...query, unit, sort, limit, baseline };
    case 'functionSeries':
      return { ...query, sort, limit, functions, groupBy, step };
    case 'heatmap':
      return { ...query, heatmap, rows, groupBy, limit, step };
    case 'explain':
      return { ...query, unit, limit, baseline: baseline ?? DEFAULT_BASELINE };
  }
}

/** Whether the answer to a query is a flame graph, alone or of a comparison. */
export function drawsFlameGraph({ queryType }: ProfileQuery): boolean {
  return queryType === 'profile' || queryType === 'comparison';
}

/** The query of the page's view for a panel of so many pixels. */
export function sizedQuery(state: PageState, width: number, range: { from: number; to: number }): SizedQuery {
  const query = profileQuery(state);
  if (query.queryType === 'functionSeries' || query.queryType === 'heatmap') {
    return { ...query, ...seriesSize(width, range) };
  }
  return {
    ...query,
    ...(drawsFlameGraph(query) && { maxNodes: query.maxNodes ?? MAX_NODES }),
    maxDataPoints: width,
    intervalMs: 1000,
  };
}

/** The points of a chart of so many pixels. */
export function seriesSize(width: number, { from, to }: { from: number; to: number }) {
  const maxDataPoints = Math.max(10, Math.floor(width / 4));
  return { maxDataPoints, intervalMs: Math.max(1, Math.floor((to - from) / maxDataPoints)) };
}
