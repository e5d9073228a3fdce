import { css } from '@emotion/css';
import { dateTimeFormat, type GrafanaTheme2 } from '@grafana/data';
import { KeyboardPlugin, SeriesTable, UPlotChart, useStyles2, useTheme2, VizTooltip } from '@grafana/ui';
import * as React from 'react';
import { paletteOf } from '../../../src/profileType';
import { formatSelector, tryParseSelector, withMatcher } from '../../../src/selector';
import { selectors } from '../../../src/selectors';
import { type Cell, colorOf, type Heatmap, heatColors, readHeatmap } from './heatmap';
import { HeatmapPlot, type Pointed } from './heatmapPlot';
import { fromTimes, type PageState, showView } from './urlState';
import { type ViewProps } from './ViewPanel';

/** The heights of a row in pixels: rows of a second are so many that not all have their name at the axis. */
const ROW_HEIGHT = { label: 18, offset: 8 };
/** The least and the largest height of the chart in pixels. */
const HEIGHTS = [220, 800] as const;
const LABEL =
  'Heat map. Arrow keys move the cursor, with the space bar they select a time range, Enter shows the flame graph of a cell.';

/**
 * Values over time as colours, by label or by offset within the second. Dragging selects
 * a time range; a click on a cell leads to the flame graph of its step and labels.
 */
export function HeatmapView({ state, frames, range, width, setState }: ViewProps) {
  const theme = useTheme2();
  const styles = useStyles2(getStyles);
  const [pointed, setPointed] = React.useState<Pointed>();
  const map = React.useMemo(() => readHeatmap(frames[0], theme), [frames, theme]);
  const colors = React.useMemo(() => heatColors(paletteOf(state.profileTypeId), theme), [state.profileTypeId, theme]);
  const plot = React.useMemo(() => new HeatmapPlot(theme, colors, LABEL), [theme, colors]);
  // uPlot, which is below this component, draws in its own effect: this one is before it.
  React.useInsertionEffect(() =>
    plot.set({
      map,
      range,
      onPoint: setPointed,
      onOpen: (cell) => setState(openCell(state, map, cell)),
      onSelect: (times) => setState(fromTimes(times)),
    })
  );
  // uPlot needs a series; the cells are drawn without it.
  const data = React.useMemo(() => [[...map.ends], map.ends.map(() => null)] as [number[], null[]], [map]);
  const height = Math.min(Math.max(map.rows.length * ROW_HEIGHT[state.heatmap ?? 'label'], HEIGHTS[0]), HEIGHTS[1]);
  const tip = pointed && describe(map, pointed, colors);
  return (
    <>
      <UPlotChart
        data={data}
        config={plot.config}
        width={width - 2 * theme.spacing.gridSize * theme.components.panel.padding - 2}
        height={height}
      >
        <KeyboardPlugin config={plot.config} />
      </UPlotChart>
      <div className={styles.scale} data-testid={selectors.page.heatmapScale}>
        <span>{map.format(0)}</span>
        <div className={styles.colors} style={{ background: `linear-gradient(to right, ${colors.join(', ')})` }} />
        <span>{map.format(map.max)}</span>
      </div>
      {pointed && tip && (
        <VizTooltip
          position={pointed}
          offset={{ x: 10, y: 10 }}
          content={<SeriesTable timestamp={tip.time} series={[tip.cell]} />}
        />
      )}
      <div className={styles.spoken} role="status">
        {tip && `${tip.time}, ${tip.cell.label}: ${tip.cell.value}`}
      </div>
    </>
  );
}

/** The time, the row and the value of a cell. */
function describe({ ends, step, rows, max, format }: Heatmap, { column, row }: Cell, colors: readonly string[]) {
  const end = ends[column];
  const line = rows[row];
  if (end === undefined || !line) {
    return undefined; // there are fewer now
  }
  const value = line.values[column] ?? undefined;
  return {
    time: `${dateTimeFormat(end - step)} – ${dateTimeFormat(end, { format: 'HH:mm:ss' })}`,
    cell: {
      label: line.name,
      value: value === undefined ? 'nothing measured' : format(value),
      color: value === undefined ? undefined : colorOf(colors, value, max),
    },
  };
}

/** The change of a state that shows the flame graph of a cell. */
function openCell(state: PageState, { ends, step, rows }: Heatmap, { column, row }: Cell): Partial<PageState> {
  const end = ends[column] ?? 0;
  const labels = Object.entries(rows[row]?.labels ?? {});
  const matchers = tryParseSelector(state.labelSelector);
  return {
    ...showView(state, 'profile'),
    ...fromTimes({ from: end - step, to: end }),
    ...(matchers && {
      labelSelector: formatSelector(
        labels.reduce((list, [name, value]) => withMatcher(list, { name, op: '=', value }), matchers)
      ),
    }),
  };
}

const getStyles = (theme: GrafanaTheme2) => ({
  scale: css({
    display: 'flex',
    alignItems: 'center',
    justifyContent: 'flex-end',
    gap: theme.spacing(1),
    margin: theme.spacing(0.5, 1, 0),
    color: theme.colors.text.secondary,
    fontSize: theme.typography.bodySmall.fontSize,
  }),
  colors: css({ width: 160, height: 8, border: `1px solid ${theme.colors.border.weak}` }),
  spoken: css({ position: 'absolute', width: 1, height: 1, overflow: 'hidden', clipPath: 'inset(50%)' }),
});
