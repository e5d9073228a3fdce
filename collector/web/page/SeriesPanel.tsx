import { LoadingState, type TimeRange } from '@grafana/data';
import { Button, PanelChrome, useTheme2 } from '@grafana/ui';
import * as React from 'react';
import { countsCPUTime, profileTypeName } from '../../../src/profileType';
import { formatSelector, SERVICE_LABEL, tryParseSelector, withMatcher } from '../../../src/selector';
import { selectors } from '../../../src/selectors';
import { DEFAULT_BASELINE, QUERY_VERSION, type Range } from '../../../src/types';
import { PanelState } from './PanelState';
import { seriesSize } from './query';
import { hasValues, prepareSeries, SeriesColors } from './series';
import { CHART_HEIGHT, SeriesChart } from './SeriesChart';
import { type PageState, showView } from './urlState';
import { useQuery } from './useQuery';
import { type SetState } from './useUrlState';

/** The most services that the graph can show and still be read. */
const MAX_SERIES = 20;
/** Below this width, in pixels, buttons have no text. */
const NARROW = 700;

interface Props {
  state: PageState;
  timeRange: TimeRange;
  range: Range;
  width: number;
  setState: SetState;
}

/**
 * The use of a resource by service over time. Dragging selects a time range, which
 * buttons compare with the window before; a service's name in the legend chooses that
 * service, and again, all.
 */
export function SeriesPanel({ state, timeRange, range, width, setState }: Props) {
  const theme = useTheme2();
  const { profileTypeId, labelSelector } = state;

  const query = useQuery(
    {
      refId: 'series',
      version: QUERY_VERSION,
      queryType: 'metrics',
      profileTypeId,
      labelSelector,
      groupBy: [SERVICE_LABEL],
      limit: MAX_SERIES,
      ...seriesSize(width, range),
    },
    range
  );
  const [colors] = React.useState(() => new SeriesColors());
  const frames = React.useMemo(
    () => prepareSeries(query.result?.frames ?? [], { labels: [SERVICE_LABEL] }, colors, theme),
    [query.result, colors, theme]
  );

  const matchers = tryParseSelector(labelSelector);
  const chosen = matchers?.find((m) => m.name === SERVICE_LABEL);
  const choose = React.useCallback(
    (service: string) => {
      if (matchers) {
        const value = chosen?.op === '=' && chosen.value === service ? '' : service;
        setState({ labelSelector: formatSelector(withMatcher(matchers, { name: SERVICE_LABEL, op: '=', value })) });
      }
    },
    [matchers, chosen, setState]
  );
  const withBefore = (view: 'comparison' | 'explain') =>
    setState({ ...showView(state, view), baseline: DEFAULT_BASELINE });

  const title = `${countsCPUTime(profileTypeId) ? 'CPU cores' : profileTypeName(profileTypeId)} by service`;
  return (
    <section aria-label={title} data-testid={selectors.page.series}>
      <PanelChrome
        title={title}
        description={`Drag over the graph to select a time range. Click on a service to see it alone. The ${MAX_SERIES} largest services are shown.`}
        loadingState={query.loading ? LoadingState.Loading : LoadingState.Done}
        actions={
          <>
            {chosen && (
              <Button
                size="sm"
                variant="secondary"
                fill="text"
                icon="arrow-left"
                data-testid={selectors.page.allServices}
                onClick={() => choose('')}
              >
                All services
              </Button>
            )}
            <Button
              size="sm"
              variant="secondary"
              icon="code-branch"
              aria-label="Compare with before"
              tooltip="Flame graph of this time range, compared with the one just before, as long"
              data-testid={selectors.page.compare}
              onClick={() => withBefore('comparison')}
            >
              {width < NARROW ? undefined : 'Compare with before'}
            </Button>
            <Button
              size="sm"
              variant="secondary"
              icon="question-circle"
              aria-label="Explain the change"
              tooltip="Which functions and labels account for the change since the time range just before, as long"
              data-testid={selectors.page.explainChange}
              onClick={() => withBefore('explain')}
            >
              {width < NARROW ? undefined : 'Explain the change'}
            </Button>
          </>
        }
      >
        <PanelState
          query={query}
          height={CHART_HEIGHT}
          empty={hasValues(frames) ? undefined : 'No data in this time range. The first points come half a minute after the first profiles.'}
        >
          <SeriesChart frames={frames} timeRange={timeRange} width={width} onChoose={choose} setState={setState} />
        </PanelState>
      </PanelChrome>
    </section>
  );
}
