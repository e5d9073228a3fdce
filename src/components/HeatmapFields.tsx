import { t } from '@grafana/i18n';
import { Combobox, MultiCombobox, RadioButtonGroup } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { SERVICE_LABEL } from '../selector';
import { selectors } from '../selectors';
import { type HeatmapRows, type ProfileQuery, type Range, type Resources } from '../types';
import { EditorField, EditorRow } from './EditorField';
import { CountField } from './CountField';
import { StepField } from './QueryOptions';

const getRows = (): Array<{ value: HeatmapRows; label: string; description: string }> => [
  {
    value: 'label',
    label: t('heatmap.label-values', 'Label values'),
    description: t('heatmap.label-values-description', 'How much each value of a label uses, over time'),
  },
  {
    value: 'offset',
    label: t('heatmap.offset', 'Offset in the second'),
    description: t('heatmap.offset-description', 'When within each second it is used, as in FlameScope'),
  },
];

/** The numbers of rows that a second may have, with their heights. */
const HEIGHTS = [50, 25, 10, 5, 2].map((rows) => ({ value: rows, label: `${1000 / rows} ms` }));

const ROWS_PLACEHOLDER = '20';

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
        label={t('heatmap.rows', 'Rows')}
        tooltip={t(
          'heatmap.rows-tooltip',
          'Rows by label show which service, pod or thread is busy when. Rows by offset show what happens within a second, such as a timer that fires every 200 ms; they need the times of single samples, which Flameline’s eBPF source keeps with ebpf.sample_times, and JFR and OTLP with storage.sample_times.'
        )}
      >
        <div data-testid={selectors.queryEditor.heatmapRows}>
          <RadioButtonGroup
            aria-label={t('heatmap.rows', 'Rows')}
            options={getRows()}
            value={rows}
            onChange={(heatmap) => onChange({ heatmap })}
          />
        </div>
      </EditorField>
      {rows === 'label' ? (
        <>
          <EditorField
            label={t('heatmap.label', 'Label')}
            htmlFor={id('heatmap-label')}
            tooltip={t('heatmap.label-tooltip', 'One row per value; of several labels, per combination of their values')}
          >
            <MultiCombobox
              id={id('heatmap-label')}
              data-testid={selectors.queryEditor.groupBy}
              placeholder={SERVICE_LABEL}
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
            label={t('heatmap.limit', 'Limit')}
            tooltip={t('heatmap.limit-tooltip', 'How many rows, the largest first')}
            placeholder={ROWS_PLACEHOLDER}
            value={query.limit}
            onChange={(limit) => onChange({ limit })}
          />
        </>
      ) : (
        <EditorField
          label={t('heatmap.row-height', 'Row height')}
          htmlFor={id('row-height')}
          tooltip={t(
            'heatmap.row-height-tooltip',
            'Higher rows have more samples, and so less noise: at 19 samples a second and CPU a row of 20 ms gets one in 2.6 s'
          )}
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
