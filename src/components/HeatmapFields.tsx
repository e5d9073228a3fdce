import { Combobox, MultiCombobox, RadioButtonGroup } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { selectors } from '../selectors';
import { type HeatmapRows, type ProfileQuery, type Range, type Resources } from '../types';
import { EditorField, EditorRow } from './EditorField';
import { CountField } from './CountField';
import { StepField } from './QueryOptions';

const ROWS: Array<{ value: HeatmapRows; label: string; description: string }> = [
  { value: 'label', label: 'Label values', description: 'How much each value of a label uses, over time' },
  { value: 'offset', label: 'Offset in the second', description: 'When within each second it is used, as in FlameScope' },
];

/** The numbers of rows that a second may have, with their heights. */
const HEIGHTS = [50, 25, 10, 5, 2].map((rows) => ({ value: rows, label: `${1000 / rows} ms` }));

interface Props {
  query: ProfileQuery;
  range: Range;
  resources: Resources;
  id: (name: string) => string;
  onChange: (change: Partial<ProfileQuery>) => void;
}

/** What the rows and columns of a heat map are. */
export function HeatmapFields({ query, range, resources, id, onChange }: Props) {
  const rows = query.heatmap ?? 'label';
  return (
    <EditorRow testId={selectors.queryEditor.heatmap}>
      <EditorField
        label="Rows"
        tooltip="Rows by label show which service, pod or thread is busy when. Rows by offset show what happens within a second, such as a timer that fires every 200 ms; they need the times of single samples, which Flameline’s eBPF source keeps with ebpf.sample_times."
      >
        <div data-testid={selectors.queryEditor.heatmapRows}>
          <RadioButtonGroup aria-label="Rows" options={ROWS} value={rows} onChange={(heatmap) => onChange({ heatmap })} />
        </div>
      </EditorField>
      {rows === 'label' ? (
        <>
          <EditorField
            label="Label"
            htmlFor={id('heatmap-label')}
            tooltip="One row per value; of several labels, per combination of their values"
          >
            <MultiCombobox
              id={id('heatmap-label')}
              data-testid={selectors.queryEditor.groupBy}
              placeholder="service_name"
              createCustomValue
              width={30}
              value={query.groupBy ?? []}
              options={async (typed: string) => complete(await resources.labelNames(range, query.labelSelector), typed)}
              onChange={(options) => onChange({ groupBy: options.map(({ value }) => value) })}
            />
          </EditorField>
          <CountField
            id={id('limit')}
            testId={selectors.queryEditor.limit}
            label="Limit"
            tooltip="How many rows, the largest first"
            placeholder="20"
            value={query.limit}
            onChange={(limit) => onChange({ limit })}
          />
        </>
      ) : (
        <EditorField
          label="Row height"
          htmlFor={id('row-height')}
          tooltip="Higher rows have more samples, and so less noise: at 19 samples a second and CPU a row of 20 ms gets one in 2.6 s"
        >
          <Combobox<number>
            id={id('row-height')}
            data-testid={selectors.queryEditor.rowHeight}
            width={14}
            options={HEIGHTS}
            value={query.rows ?? 50}
            onChange={({ value }) => onChange({ rows: value })}
          />
        </EditorField>
      )}
      <StepField id={id('step')} value={query.step} onChange={(step) => onChange({ step })} />
    </EditorRow>
  );
}
