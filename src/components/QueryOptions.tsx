import { Combobox, MultiCombobox, RadioButtonGroup } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { DURATION_HINT, isDuration } from '../duration';
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

const QUERY_TYPES: Array<{ value: QueryType; label: string; description: string }> = [
  { value: 'profile', label: 'Flame graph', description: 'Where the resource went, by function' },
  { value: 'metrics', label: 'Series', description: 'How much was used, over time' },
  { value: 'both', label: 'Both', description: 'A flame graph and a series' },
  { value: 'comparison', label: 'Comparison', description: 'A flame graph compared with a baseline' },
  { value: 'functions', label: 'Table of functions', description: 'The functions that use most' },
  { value: 'explain', label: 'Explain', description: 'Which functions and labels account for a change' },
  { value: 'functionSeries', label: 'Functions over time', description: 'A series for each of some functions' },
  { value: 'heatmap', label: 'Heat map', description: 'How much was used, by label or by offset in the second' },
];

const SORTS: Array<{ value: FunctionOrder; label: string; description: string }> = [
  { value: 'own', label: 'Own', description: 'What functions use themselves' },
  { value: 'total', label: 'Total', description: 'With all that they call' },
];

type Compared = 'alone' | 'baseline';

const COMPARED: Array<{ value: Compared; label: string; description: string }> = [
  { value: 'alone', label: 'Nothing', description: 'The values of the time range' },
  { value: 'baseline', label: 'Baseline', description: 'And how they changed, with what chance can explain' },
];

/** The units that a query's values can be shown in. */
function units(cpu: boolean, type: QueryType): Array<{ value: Unit; label: string; description?: string }> {
  const flameGraph = type === 'profile' || type === 'both' || type === 'comparison';
  return [
    { value: 'time', label: cpu ? 'Time' : 'Value' },
    ...(cpu
      ? [{ value: 'cores' as const, label: 'Cores', description: 'CPU time divided by the time range, as series have it' }]
      : []),
    ...(type === 'explain' ? [] : [{ value: 'percent' as const, label: 'Percent', description: 'Of all that is selected' }]),
    ...(flameGraph
      ? [{ value: 'samples' as const, label: 'Samples', description: 'How many were taken, if profiles count them' }]
      : []),
  ];
}

const GROUP_BY = {
  annotations: 'The labels that an annotation names; other combinations of their values have their own',
  metrics: 'One series per combination of their values',
};

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
  return (
    <EditorRow>
      {choosesType && type !== 'annotations' && (
        <EditorField label="Query type" htmlFor={id('query-type')}>
          <Combobox<QueryType>
            id={id('query-type')}
            data-testid={selectors.queryEditor.queryType}
            width={30}
            options={QUERY_TYPES}
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
          label="Unit"
          tooltip="Cores divide the CPU time by the time range, so that values read as those of the series do; percent are of all that is selected"
        >
          <div data-testid={selectors.queryEditor.unit}>
            <RadioButtonGroup
              aria-label="Unit"
              options={units(countsCPUTime(query.profileTypeId), type)}
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
          label="Max nodes"
          tooltip="Smaller parts of the flame graph are folded into “other”"
          placeholder="Auto"
          value={query.maxNodes}
          onChange={(maxNodes) => onChange({ maxNodes })}
        />
      )}
      {(table || functionSeries) && (
        <EditorField
          label={table ? 'Order by' : 'Values'}
          tooltip={table ? 'With a baseline, by the change of it, up or down' : 'Of functions alone, or with all that they call'}
        >
          <div data-testid={selectors.queryEditor.sort}>
            <RadioButtonGroup
              aria-label={table ? 'Order by' : 'Values'}
              options={SORTS}
              value={query.sort ?? 'own'}
              onChange={(sort) => onChange({ sort })}
            />
          </div>
        </EditorField>
      )}
      {functionSeries && (
        <EditorField
          label="Functions"
          htmlFor={id('functions')}
          tooltip="Their names as flame graphs and tables show them"
        >
          <MultiCombobox
            id={id('functions')}
            data-testid={selectors.queryEditor.functions}
            placeholder="The largest"
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
          <EditorField label="Compare with">
            <div data-testid={selectors.queryEditor.compare}>
              <RadioButtonGroup
                aria-label="Compare with"
                options={COMPARED}
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
          label="Limit"
          tooltip="How many functions, the largest first"
          placeholder={explain ? '20' : '100'}
          value={query.limit}
          onChange={(limit) => onChange({ limit })}
        />
      )}
      {series && (
        <>
          <EditorField label="Group by" htmlFor={id('group-by')} tooltip={GROUP_BY[type === 'annotations' ? 'annotations' : 'metrics']}>
            <MultiCombobox
              id={id('group-by')}
              data-testid={selectors.queryEditor.groupBy}
              placeholder={type === 'annotations' ? 'Service, pod, container, command, node' : 'One series'}
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
            label="Limit"
            tooltip={functionSeries ? 'How many functions, if none are named' : 'Only the largest series'}
            placeholder={functionSeries ? '10' : 'None'}
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
      label="Step"
      htmlFor={id}
      tooltip="The time between two points, such as 15s; by default it follows the panel’s width"
      error={valid ? undefined : DURATION_HINT}
    >
      <TextInput
        id={id}
        data-testid={selectors.queryEditor.step}
        width={14}
        placeholder="Auto"
        invalid={!valid}
        value={value ?? ''}
        onCommit={(text) => onChange(text.trim() || undefined)}
      />
    </EditorField>
  );
}
