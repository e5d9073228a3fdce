import {
  type DataFrame,
  type Field,
  FieldColorModeId,
  fieldColorModeRegistry,
  FieldType,
  formattedValueToString,
  getDisplayProcessor,
  type GrafanaTheme2,
  type Labels,
} from '@grafana/data';
import { type Palette } from '../../../src/profileType';

/** A value for each column; null where nothing was measured. */
export type Values = ReadonlyArray<number | null | undefined>;

/** A heat map: its columns are steps of time, its rows have a name each. */
export interface Heatmap {
  /** The end of each column in Unix milliseconds; column i is of (ends[i] - step, ends[i]]. */
  ends: readonly number[];
  /** The length of a column in milliseconds. */
  step: number;
  /** The lowest first. */
  rows: Array<{ name: string; labels: Labels; values: Values }>;
  /** The largest value, which has the strongest colour; 0 has the weakest. */
  max: number;
  /** Writes a value with its unit. */
  format: (value: number) => string;
}

/** The heat map of a result of the query type heatmap: a field of time, and one for each row. */
export function readHeatmap(frame: DataFrame | undefined, theme: GrafanaTheme2): Heatmap {
  const time = frame?.fields.find((field) => field.type === FieldType.time);
  const fields: Field[] = frame?.fields.filter((field) => field.type === FieldType.number) ?? [];
  const rows = fields.map(({ name, labels, config, values }) => ({
    name: config.displayNameFromDS ?? name,
    labels: labels ?? {},
    values: values as Values,
  }));
  const display = fields[0] && getDisplayProcessor({ field: fields[0], theme });
  let max = 0;
  for (const { values } of rows) {
    for (const value of values) {
      max = Math.max(max, value ?? 0);
    }
  }
  return {
    ends: (time?.values as number[] | undefined) ?? [],
    step: time?.config.interval ?? 0,
    rows,
    max,
    format: (value) => (display ? formattedValueToString(display(value)) : String(value)),
  };
}

/** A place in a heat map. */
export interface Cell {
  column: number;
  row: number;
}

/** The cell at a time, in Unix milliseconds, and a height, in rows from the bottom; undefined beside all cells. */
export function cellAt({ ends, step, rows }: Heatmap, time: number, height: number): Cell | undefined {
  const [first] = ends;
  if (first === undefined || step <= 0) {
    return undefined;
  }
  const column = Math.ceil((time - first) / step);
  const row = Math.floor(height);
  return column >= 0 && column < ends.length && row >= 0 && row < rows.length ? { column, row } : undefined;
}

/** Adjacent columns of a row that share a pixel, or one column that has several. */
export interface Block {
  left: number;
  right: number;
  /** The largest value of the columns; null if nothing was measured. */
  value: number | null;
}

/**
 * The blocks of a row. edges are the pixels of the columns' left edges and of the last
 * one's right edge, rounded. A column is one pixel wide at least, and those that share a
 * pixel show their largest value, so that none is lost.
 */
export function blocks(values: Values, edges: readonly number[]): Block[] {
  const out: Block[] = [];
  let last: Block | undefined;
  for (let i = 0; i + 1 < edges.length; i++) {
    const value = values[i] ?? null;
    const left = edges[i] ?? 0;
    if (last?.left === left) {
      last.value = last.value === null || value === null ? (last.value ?? value) : Math.max(last.value, value);
      last.right = Math.max(last.right, edges[i + 1] ?? 0);
    } else {
      last = { left, right: Math.max(left + 1, edges[i + 1] ?? 0), value };
      out.push(last);
    }
  }
  return out;
}

const SCHEMES: Record<Palette, FieldColorModeId> = {
  hot: FieldColorModeId.ContinuousReds,
  cold: FieldColorModeId.ContinuousBlues,
  green: FieldColorModeId.ContinuousGreens,
};
/** The number of colours of a heat map. */
const COLORS = 64;
/** How far the colour of 0 is from the panel's background, of 1: cells without a value have none. */
const WEAKEST = 0.08;

/** A theme's colours of a heat map, the weakest first. */
export function heatColors(palette: Palette, theme: GrafanaTheme2): string[] {
  const mode = fieldColorModeRegistry.get(SCHEMES[palette]);
  const color = mode.getCalculator({ name: '', type: FieldType.number, config: {}, values: [] }, theme);
  return Array.from({ length: COLORS }, (_, i) => color(0, WEAKEST + ((1 - WEAKEST) * i) / (COLORS - 1)));
}

/** The colour of a value between 0 and max. */
export function colorOf(colors: readonly string[], value: number, max: number): string {
  const share = max > 0 ? Math.min(Math.max(value / max, 0), 1) : 0;
  return colors[Math.round(share * (colors.length - 1))] ?? '';
}

/** The rows whose names stand at the axis: as many as there is room for, at even distances. */
export function namedRows(count: number, rowHeight: number, textHeight: number): number[] {
  const every = [1, 2, 5, 10, 20, 50].find((n) => n * rowHeight >= textHeight) ?? 100;
  return Array.from({ length: Math.ceil(count / every) }, (_, i) => i * every);
}

/** A text of some characters at most; a longer one lacks its middle, since names often differ at their ends. */
export function shorten(text: string, most: number): string {
  if (text.length <= most) {
    return text;
  }
  const kept = Math.max(most - 1, 2);
  return `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(-Math.floor(kept / 2))}`;
}
