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

/** Whether there is anything in the frames. */
export function hasValues(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.fields.some((field) => field.type === FieldType.number && total(field) > 0));
}

/**
 * Frames of one series each, named by a label's value, drawn as stacked areas
 * with the largest at the bottom and first in the legend.
 */
export function prepareSeries(frames: DataFrame[], label: string, theme: GrafanaTheme2): DataFrame[] {
  return frames
    .map((frame) => ({ frame, size: Math.max(0, ...frame.fields.map(total)) }))
    .filter(({ frame, size }) => size > 0 && frame.length > 0)
    .sort((a, b) => b.size - a.size)
    .map(({ frame }) => ({ ...frame, fields: frame.fields.map((field) => prepareField(field, label, theme)) }));
}

function prepareField(field: Field, label: string, theme: GrafanaTheme2): Field {
  const isValue = field.type === FieldType.number;
  const prepared: Field = {
    ...field,
    state: undefined,
    config: {
      ...field.config,
      ...(isValue && {
        displayNameFromDS: undefined,
        displayName: field.labels?.[label] ?? 'all',
        color: { mode: FieldColorModeId.PaletteClassicByName },
        custom: GRAPH,
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
