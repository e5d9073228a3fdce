import { type DataFrame, EventBusSrv, type TimeRange } from '@grafana/data';
import { LegendDisplayMode, SortOrder, TooltipDisplayMode } from '@grafana/schema';
import { PanelContextProvider, TimeSeries, TooltipPlugin, useTheme2, ZoomPlugin } from '@grafana/ui';
import * as React from 'react';
import { fromTimes } from './urlState';
import { type SetState } from './useUrlState';

/** The height of a chart in pixels. */
export const CHART_HEIGHT = 300;
/** From this width on, in pixels, the legend stands beside the graph. */
const WIDE = 900;

interface Props {
  /** What prepareSeries gives. */
  frames: DataFrame[];
  timeRange: TimeRange;
  /** The width of the panel in pixels. */
  width: number;
  /** Takes the name of a series that was chosen in the legend. */
  onChoose: (name: string) => void;
  setState: SetState;
}

/** Series over time. Dragging selects a time range. */
export function SeriesChart({ frames, timeRange, width, onChoose, setState }: Props) {
  const theme = useTheme2();
  const [eventBus] = React.useState(() => new EventBusSrv());
  const context = { eventsScope: 'page', eventBus, onToggleSeriesVisibility: onChoose };
  const wide = width >= WIDE;
  return (
    <PanelContextProvider value={context}>
      <TimeSeries
        width={width - 2 * theme.spacing.gridSize * theme.components.panel.padding - 2}
        height={CHART_HEIGHT}
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
            <ZoomPlugin config={config} onZoom={(times) => setState(fromTimes(times))} />
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
  );
}
