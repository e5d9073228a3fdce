import {
  type DataFrame,
  type Field,
  FieldColorModeId,
  FieldType,
  getDisplayProcessor,
  type GrafanaTheme2,
} from '@grafana/data';
import { GraphDrawStyle, type GraphFieldConfig, LineInterpolation, StackingMode, VisibilityMode } from '@grafana/schema';

const GRAPH: GraphFieldConfig = {
  drawStyle: GraphDrawStyle.Line,
  lineInterpolation: LineInterpolation.Linear,
  lineWidth: 1,
  fillOpacity: 40,
  showPoints: VisibilityMode.Never,
  stacking: { mode: StackingMode.Normal, group: 'A' },
};

const LINES: GraphFieldConfig = { ...GRAPH, fillOpacity: 0, stacking: { mode: StackingMode.None } };

/**
 * The place of each series in the palette: the order in which they were first
 * seen, so that a series keeps its colour through filters and refreshes.
 */
export class SeriesColors {
  private readonly seen = new Map<string, number>();

  index(name: string): number {
    const at = this.seen.get(name) ?? this.seen.size;
    this.seen.set(name, at);
    return at;
  }
}

/** Whether there is anything in the frames. */
export function hasValues(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.fields.some((field) => field.type === FieldType.number && total(field) > 0));
}

/** What the series of a chart are named after, and how they are drawn. */
export interface SeriesStyle {
  /** The labels whose values, in this order, are the name of a series. */
  labels: string[];
  /** Draws lines beside each other: the values are parts of each other, not of a whole. */
  lines?: boolean;
}

/**
 * Frames of one series each, named by the values of labels, drawn as stacked areas
 * with the largest at the bottom and first in the legend. Where others have a
 * point and a series has none it used nothing: it becomes 0, so that stacks
 * and means are of the whole time range.
 */
export function prepareSeries(
  frames: DataFrame[],
  style: SeriesStyle,
  colors: SeriesColors,
  theme: GrafanaTheme2
): DataFrame[] {
  const times = [...new Set(frames.flatMap((frame) => timesOf(frame)))].sort((a, b) => a - b);
  return frames
    .map((frame) => ({ frame: fillZeros(frame, times), size: Math.max(0, ...frame.fields.map(total)) }))
    .filter(({ frame, size }) => size > 0 && frame.length > 0)
    .sort((a, b) => b.size - a.size)
    .map(({ frame }) => ({ ...frame, fields: frame.fields.map((field) => prepareField(field, style, colors, theme)) }));
}

function timesOf(frame: DataFrame): number[] {
  return frame.fields.find((field) => field.type === FieldType.time)?.values ?? [];
}

function fillZeros(frame: DataFrame, times: number[]): DataFrame {
  const at = new Map(timesOf(frame).map((time, i) => [time, i]));
  const fields = frame.fields.map((field) => ({
    ...field,
    values:
      field.type === FieldType.time ? times : times.map((time) => Number(field.values[at.get(time) ?? -1] ?? 0)),
  }));
  return { ...frame, fields, length: times.length };
}

function prepareField(field: Field, style: SeriesStyle, colors: SeriesColors, theme: GrafanaTheme2): Field {
  const isValue = field.type === FieldType.number;
  const name = style.labels.flatMap((label) => field.labels?.[label] || []).join(', ') || 'all';
  const graph = style.lines ? LINES : GRAPH;
  const prepared: Field = {
    ...field,
    state: isValue ? { seriesIndex: colors.index(name) } : undefined,
    config: {
      ...field.config,
      ...(isValue && {
        displayNameFromDS: undefined,
        displayName: name,
        color: { mode: FieldColorModeId.PaletteClassic },
        // A line needs two points: a single one would not be seen.
        custom: field.values.length === 1 ? { ...graph, showPoints: VisibilityMode.Always, pointSize: 5 } : graph,
        min: 0,
      }),
    },
  };
  return { ...prepared, display: getDisplayProcessor({ field: prepared, theme }) };
}

function total(field: Field): number {
  if (field.type !== FieldType.number) {
    return 0;
  }
  return field.values.reduce<number>((sum, value) => sum + (Number.isFinite(value) ? Number(value) : 0), 0);
}
