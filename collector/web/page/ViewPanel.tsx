import { type DataFrame, FieldType, LoadingState, type TimeRange } from '@grafana/data';
import { checkFields, getMessageCheckFieldsResult } from '@grafana/flamegraph';
import { LoadingPlaceholder, PanelChrome } from '@grafana/ui';
import * as React from 'react';
import { selectors } from '../../../src/selectors';
import { type Range } from '../../../src/types';
import { DownloadMenu } from './DownloadMenu';
import { FlameGraphView } from './FlameGraphView';
import { FunctionSeriesView } from './FunctionSeriesView';
import { NoProfiles } from './NoProfiles';
import { PanelState } from './PanelState';
import { sizedQuery } from './query';
import { hasValues } from './series';
import { titleOf } from './title';
import { type PageState } from './urlState';
import { type QueryState, useQuery } from './useQuery';
import { type SetState } from './useUrlState';
import { type View } from './views';

interface Props {
  state: PageState;
  timeRange: TimeRange;
  range: Range;
  /** The width of the panel in pixels. */
  width: number;
  setState: SetState;
}

/** What draws the result of a view's query. */
export interface ViewProps extends Props {
  frames: DataFrame[];
}

// Tables and heat maps are not on the first view, and have scripts of their own.
const TableView = React.lazy(() => import('./TableView').then((m) => ({ default: m.TableView })));

const HeatmapView = React.lazy(() => import('./HeatmapView').then((m) => ({ default: m.HeatmapView })));

/** How each view is drawn, and whether its result has anything to draw. */
const DRAWN: Record<View, { testId: string; Component: React.ComponentType<ViewProps>; has: (f: DataFrame[]) => boolean }> = {
  profile: { testId: selectors.page.flameGraph, Component: FlameGraphView, has: hasStacktraces },
  comparison: { testId: selectors.page.flameGraph, Component: FlameGraphView, has: hasStacktraces },
  functions: { testId: selectors.page.functions, Component: TableView, has: ([frame]) => Boolean(frame?.length) },
  functionSeries: { testId: selectors.page.functionSeries, Component: FunctionSeriesView, has: hasValues },
  heatmap: { testId: selectors.page.heatmap, Component: HeatmapView, has: ([frame]) => Boolean(frame?.length) },
  explain: { testId: selectors.page.explain, Component: TableView, has: ([frame]) => Boolean(frame) },
};

/** The panel below the chart: the view of what the selector and the time range hold. */
export function ViewPanel(props: Props) {
  const { state, range, width } = props;
  const query = useQuery(sizedQuery(state, width, range), range);
  const frames = React.useMemo(() => query.result?.frames ?? [], [query.result]);
  const { testId, Component, has } = DRAWN[state.queryType];
  const title = titleOf(state);
  return (
    <section aria-label={title} data-testid={testId}>
      <PanelChrome
        title={title}
        loadingState={query.loading ? LoadingState.Loading : LoadingState.Done}
        actions={<DownloadMenu state={state} range={range} frames={frames} />}
      >
        <PanelState height={200} query={checked(query, state.queryType)} empty={has(frames) ? undefined : <NoProfiles />}>
          <React.Suspense fallback={<LoadingPlaceholder text="Loading…" />}>
            <Component {...props} frames={frames} />
          </React.Suspense>
        </PanelState>
      </PanelChrome>
    </section>
  );
}

/** A query with an error if a flame graph cannot be drawn, and without notices that the view itself shows. */
function checked(query: QueryState, view: View): QueryState {
  const frame = query.result?.frames[0];
  if (!query.result || !frame) {
    return query;
  }
  const wrong = view === 'profile' || view === 'comparison' ? checkFields(frame) : undefined;
  if (wrong) {
    return { loading: false, error: getMessageCheckFieldsResult(wrong) };
  }
  const shown: unknown = frame.meta?.custom?.['explanation'];
  const notices = query.result.notices.filter(({ text }) => text !== shown);
  return { ...query, result: { ...query.result, notices } };
}

/** Whether the first node of a flame graph, which is the root, has a value on any side. */
function hasStacktraces([frame]: DataFrame[]): boolean {
  return Boolean(
    frame?.fields.some((f) => f.type === FieldType.number && f.name.startsWith('value') && Number(f.values[0] ?? 0) > 0)
  );
}
