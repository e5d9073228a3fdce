import { EventBusSrv, LoadingState, type TimeRange } from '@grafana/data';
import { LegendDisplayMode, SortOrder, TooltipDisplayMode } from '@grafana/schema';
import {
  Button,
  PanelChrome,
  PanelContextProvider,
  TimeSeries,
  TooltipPlugin,
  useTheme2,
  ZoomPlugin,
} from '@grafana/ui';
import * as React from 'react';
import { countsCPUTime, profileTypeName } from '../../../src/profileType';
import { formatSelector, SERVICE_LABEL, tryParseSelector, withMatcher } from '../../../src/selector';
import { selectors } from '../../../src/selectors';
import { QUERY_VERSION, type Range } from '../../../src/types';
import { PanelState } from './PanelState';
import { hasValues, prepareSeries, SeriesColors } from './series';
import { type PageState } from './urlState';
import { useQuery } from './useQuery';
import { type SetState } from './useUrlState';

/** The most services that the graph can show and still be read. */
const MAX_SERIES = 20;
const HEIGHT = 300;
/** From this width on, in pixels, the legend stands beside the graph. */
const WIDE = 900;

interface Props {
  state: PageState;
  timeRange: TimeRange;
  range: Range;
  width: number;
  setState: SetState;
}

/**
 * The use of a resource by service over time. Dragging selects a time range;
 * a service's name in the legend chooses that service, and again, all.
 */
export function SeriesPanel({ state, timeRange, range, width, setState }: Props) {
  const theme = useTheme2();
  const { profileTypeId, labelSelector } = state;
  const points = Math.max(10, Math.floor(width / 4));

  const query = useQuery(
    {
      refId: 'series',
      version: QUERY_VERSION,
      queryType: 'metrics',
      profileTypeId,
      labelSelector,
      groupBy: [SERVICE_LABEL],
      limit: MAX_SERIES,
      maxDataPoints: points,
      intervalMs: Math.max(1, Math.floor((range.to - range.from) / points)),
    },
    range
  );
  const [colors] = React.useState(() => new SeriesColors());
  const frames = React.useMemo(
    () => prepareSeries(query.result?.frames ?? [], SERVICE_LABEL, colors, theme),
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
  const [eventBus] = React.useState(() => new EventBusSrv());
  const context = { eventsScope: 'page', eventBus, onToggleSeriesVisibility: choose };
  const zoom = ({ from, to }: Range) => setState({ from: String(Math.floor(from)), to: String(Math.ceil(to)) });

  const wide = width >= WIDE;
  const title = `${countsCPUTime(profileTypeId) ? 'CPU cores' : profileTypeName(profileTypeId)} by service`;
  return (
    <section aria-label={title} data-testid={selectors.page.series}>
      <PanelChrome
        title={title}
        description={`Drag over the graph to select a time range. Click on a service to see it alone. The ${MAX_SERIES} largest services are shown.`}
        loadingState={query.loading ? LoadingState.Loading : LoadingState.Done}
        actions={
          chosen && (
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
          )
        }
      >
        <PanelState
          query={query}
          height={HEIGHT}
          empty={hasValues(frames) ? undefined : 'No data in this time range. The first points come half a minute after the first profiles.'}
        >
          <PanelContextProvider value={context}>
            <TimeSeries
              width={width - 2 * theme.spacing.gridSize * theme.components.panel.padding - 2}
              height={HEIGHT}
              frames={frames}
              timeRange={timeRange}
              timeZone="browser"
              legend={{
                showLegend: true,
                displayMode: wide ? LegendDisplayMode.Table : LegendDisplayMode.List,
                placement: wide ? 'right' : 'bottom',
                calcs: wide ? ['mean', 'max'] : [],
                width: wide ? 420 : undefined,
              }}
            >
              {(config, alignedFrame) => (
                <>
                  <ZoomPlugin config={config} onZoom={zoom} />
                  <TooltipPlugin
                    config={config}
                    data={alignedFrame}
                    frames={frames}
                    mode={TooltipDisplayMode.Multi}
                    sortOrder={SortOrder.Descending}
                    timeZone="browser"
                  />
                </>
              )}
            </TimeSeries>
          </PanelContextProvider>
        </PanelState>
      </PanelChrome>
    </section>
  );
}
