import { t } from '@grafana/i18n';
import { Combobox, MultiCombobox, RadioButtonGroup } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { durationHint, isDuration } from '../duration';
import { countsCPUTime } from '../profileType';
import { selectors } from '../selectors';
import {
  DEFAULT_BASELINE,
  type FunctionOrder,
  type ProfileQuery,
  type QueryType,
  type Range,
  type Resources,
  type Unit,
} from '../types';
import { CountField } from './CountField';
import { EditorField, EditorRow } from './EditorField';
import { TextInput } from './SelectorInput';

const getQueryTypes = (): Array<{ value: QueryType; label: string; description: string }> => [
  {
    value: 'profile',
    label: t('query-options.flame-graph', 'Flame graph'),
    description: t('query-options.flame-graph-description', 'Where the resource went, by function'),
  },
  {
    value: 'metrics',
    label: t('query-options.series', 'Series'),
    description: t('query-options.series-description', 'How much was used, over time'),
  },
  {
    value: 'both',
    label: t('query-options.both', 'Both'),
    description: t('query-options.both-description', 'A flame graph and a series'),
  },
  {
    value: 'comparison',
    label: t('query-options.comparison', 'Comparison'),
    description: t('query-options.comparison-description', 'A flame graph compared with a baseline'),
  },
  {
    value: 'functions',
    label: t('query-options.table', 'Table of functions'),
    description: t('query-options.table-description', 'The functions that use most'),
  },
  {
    value: 'explain',
    label: t('query-options.explain', 'Explain'),
    description: t('query-options.explain-description', 'Which functions and labels account for a change'),
  },
  {
    value: 'functionSeries',
    label: t('query-options.function-series', 'Functions over time'),
    description: t('query-options.function-series-description', 'A series for each of some functions'),
  },
  {
    value: 'heatmap',
    label: t('query-options.heatmap', 'Heat map'),
    description: t('query-options.heatmap-description', 'How much was used, by label or by offset in the second'),
  },
];

const getSorts = (): Array<{ value: FunctionOrder; label: string; description: string }> => [
  {
    value: 'own',
    label: t('query-options.own', 'Own'),
    description: t('query-options.own-description', 'What functions use themselves'),
  },
  {
    value: 'total',
    label: t('query-options.total', 'Total'),
    description: t('query-options.total-description', 'With all that they call'),
  },
];

type Compared = 'alone' | 'baseline';

const getCompared = (): Array<{ value: Compared; label: string; description: string }> => [
  {
    value: 'alone',
    label: t('query-options.alone', 'Nothing'),
    description: t('query-options.alone-description', 'The values of the time range'),
  },
  {
    value: 'baseline',
    label: t('query-options.baseline', 'Baseline'),
    description: t('query-options.baseline-description', 'And how they changed, with what chance can explain'),
  },
];

interface UnitOption {
  value: Unit;
  label: string;
  description?: string;
}

/** The units that a query's values can be shown in. */
function getUnits(cpu: boolean, type: QueryType): UnitOption[] {
  const time: UnitOption = {
    value: 'time',
    label: cpu ? t('query-options.time', 'Time') : t('query-options.value', 'Value'),
  };
  const cores: UnitOption = {
    value: 'cores',
    label: t('query-options.cores', 'Cores'),
    description: t('query-options.cores-description', 'CPU time divided by the time range, as series have it'),
  };
  const percent: UnitOption = {
    value: 'percent',
    label: t('query-options.percent', 'Percent'),
    description: t('query-options.percent-description', 'Of all that is selected'),
  };
  const samples: UnitOption = {
    value: 'samples',
    label: t('query-options.samples', 'Samples'),
    description: t('query-options.samples-description', 'How many were taken, if profiles count them'),
  };
  const flameGraph = type === 'profile' || type === 'both' || type === 'comparison';
  return [time, ...(cpu ? [cores] : []), ...(type === 'explain' ? [] : [percent]), ...(flameGraph ? [samples] : [])];
}

/** The numbers that apply where a limit is not set. */
const LIMITS = { explain: '20', functions: '100', functionSeries: '10' };

interface Props {
  query: ProfileQuery;
  range: Range;
  resources: Resources;
  id: (name: string) => string;
  /** Whether the query type is chosen here, and not elsewhere. */
  choosesType?: boolean;
  onChange: (change: Partial<ProfileQuery>) => void;
}

/** What a query returns, and how much of it. */
export function QueryOptions({ query, range, resources, id, choosesType = true, onChange }: Props) {
  const type = query.queryType ?? 'profile';
  const drawn = type === 'profile' || type === 'both' || type === 'comparison';
  const table = type === 'functions';
  const functionSeries = type === 'functionSeries';
  const explain = type === 'explain';
  const series = type === 'metrics' || type === 'both' || type === 'annotations' || functionSeries;
  const groupBy = async (typed: string) =>
    complete(await resources.labelNames(range, query.labelSelector), typed);
  const order = table ? t('query-options.order-by', 'Order by') : t('query-options.values', 'Values');
  return (
    <EditorRow>
      {choosesType && type !== 'annotations' && (
        <EditorField label={t('query-options.query-type', 'Query type')} htmlFor={id('query-type')}>
          <Combobox<QueryType>
            id={id('query-type')}
            data-testid={selectors.queryEditor.queryType}
            width={30}
            options={getQueryTypes()}
            value={type}
            onChange={({ value: queryType }) =>
              onChange({
                queryType,
                ...((queryType === 'comparison' || queryType === 'explain') && {
                  baseline: query.baseline ?? DEFAULT_BASELINE,
                }),
              })
            }
          />
        </EditorField>
      )}
      {(drawn || table || (explain && countsCPUTime(query.profileTypeId))) && (
        <EditorField
          label={t('query-options.unit', 'Unit')}
          tooltip={t(
            'query-options.unit-tooltip',
            'Cores divide the CPU time by the time range, so that values read as those of the series do; percent are of all that is selected'
          )}
        >
          <div data-testid={selectors.queryEditor.unit}>
            <RadioButtonGroup
              aria-label={t('query-options.unit', 'Unit')}
              options={getUnits(countsCPUTime(query.profileTypeId), type)}
              value={query.unit ?? 'time'}
              onChange={(unit) => onChange({ unit })}
            />
          </div>
        </EditorField>
      )}
      {drawn && (
        <CountField
          id={id('max-nodes')}
          testId={selectors.queryEditor.maxNodes}
          label={t('query-options.max-nodes', 'Max nodes')}
          tooltip={t('query-options.max-nodes-tooltip', 'Smaller parts of the flame graph are folded into “other”')}
          placeholder={t('query-options.auto', 'Auto')}
          value={query.maxNodes}
          onChange={(maxNodes) => onChange({ maxNodes })}
        />
      )}
      {(table || functionSeries) && (
        <EditorField
          label={order}
          tooltip={
            table
              ? t('query-options.order-by-tooltip', 'With a baseline, by the change of it, up or down')
              : t('query-options.values-tooltip', 'Of functions alone, or with all that they call')
          }
        >
          <div data-testid={selectors.queryEditor.sort}>
            <RadioButtonGroup
              aria-label={order}
              options={getSorts()}
              value={query.sort ?? 'own'}
              onChange={(sort) => onChange({ sort })}
            />
          </div>
        </EditorField>
      )}
      {functionSeries && (
        <EditorField
          label={t('query-options.functions', 'Functions')}
          htmlFor={id('functions')}
          tooltip={t('query-options.functions-tooltip', 'Their names as flame graphs and tables show them')}
        >
          <MultiCombobox
            id={id('functions')}
            data-testid={selectors.queryEditor.functions}
            placeholder={t('query-options.functions-placeholder', 'The largest')}
            createCustomValue
            width={40}
            value={query.functions ?? []}
            options={(query.functions ?? []).map((value) => ({ value }))}
            onChange={(options) => onChange({ functions: options.map(({ value }) => value) })}
          />
        </EditorField>
      )}
      {table && (
        <>
          <EditorField label={t('query-options.compare-with', 'Compare with')}>
            <div data-testid={selectors.queryEditor.compare}>
              <RadioButtonGroup
                aria-label={t('query-options.compare-with', 'Compare with')}
                options={getCompared()}
                value={query.baseline ? 'baseline' : 'alone'}
                onChange={(to) => onChange({ baseline: to === 'baseline' ? DEFAULT_BASELINE : undefined })}
              />
            </div>
          </EditorField>
        </>
      )}
      {(table || explain) && (
        <CountField
          id={id('limit')}
          testId={selectors.queryEditor.limit}
          label={t('query-options.limit', 'Limit')}
          tooltip={t('query-options.limit-functions', 'How many functions, the largest first')}
          placeholder={explain ? LIMITS.explain : LIMITS.functions}
          value={query.limit}
          onChange={(limit) => onChange({ limit })}
        />
      )}
      {series && (
        <>
          <EditorField
            label={t('query-options.group-by', 'Group by')}
            htmlFor={id('group-by')}
            tooltip={
              type === 'annotations'
                ? t(
                    'query-options.group-by-annotations',
                    'The labels that an annotation names; other combinations of their values have their own'
                  )
                : t('query-options.group-by-series', 'One series per combination of their values')
            }
          >
            <MultiCombobox
              id={id('group-by')}
              data-testid={selectors.queryEditor.groupBy}
              placeholder={
                type === 'annotations'
                  ? t('query-options.annotation-labels', 'Service, pod, container, command, node')
                  : t('query-options.one-series', 'One series')
              }
              createCustomValue
              width={30}
              value={query.groupBy ?? []}
              options={groupBy}
              onChange={(options) => onChange({ groupBy: options.map(({ value }) => value) })}
            />
          </EditorField>
          <CountField
            id={id('limit')}
            testId={selectors.queryEditor.limit}
            label={t('query-options.limit', 'Limit')}
            tooltip={
              functionSeries
                ? t('query-options.limit-unnamed-functions', 'How many functions, if none are named')
                : t('query-options.limit-series', 'Only the largest series')
            }
            placeholder={functionSeries ? LIMITS.functionSeries : t('query-options.no-limit', 'None')}
            value={query.limit}
            onChange={(limit) => onChange({ limit })}
          />
          <StepField id={id('step')} value={query.step} onChange={(step) => onChange({ step })} />
        </>
      )}
    </EditorRow>
  );
}

export function StepField({ id, value, onChange }: { id: string; value?: string; onChange: (step?: string) => void }) {
  const valid = !value || value.includes('$') || isDuration(value);
  return (
    <EditorField
      label={t('query-options.step', 'Step')}
      htmlFor={id}
      tooltip={t(
        'query-options.step-tooltip',
        'The time between two points, such as 15s; by default it follows the panel’s width'
      )}
      error={valid ? undefined : durationHint()}
    >
      <TextInput
        id={id}
        data-testid={selectors.queryEditor.step}
        width={14}
        placeholder={t('query-options.auto', 'Auto')}
        invalid={!valid}
        value={value ?? ''}
        onCommit={(text) => onChange(text.trim() || undefined)}
      />
    </EditorField>
  );
}
