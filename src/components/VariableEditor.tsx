import { type TimeRange } from '@grafana/data';
import { t } from '@grafana/i18n';
import { Combobox } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { migrateVariableQuery } from '../migrate';
import { validateSelector } from '../selector';
import { selectors } from '../selectors';
import { type Resources, type VariableKind, type VariableQuery } from '../types';
import { EditorField, EditorRow } from './EditorField';
import { SelectorInput } from './SelectorInput';
import { useRange } from './useRange';

interface Props {
  query: VariableQuery;
  range?: TimeRange;
  resources: Resources;
  onChange: (query: VariableQuery) => void;
  onRunQuery: () => void;
}

const getKinds = (): Array<{ value: VariableKind; label: string }> => [
  { value: 'labelValues', label: t('variable-editor.label-values', 'Label values') },
  { value: 'labelNames', label: t('variable-editor.label-names', 'Label names') },
  { value: 'profileTypes', label: t('variable-editor.profile-types', 'Profile types') },
];

/** Edits the query of a dashboard variable. */
export function VariableEditor({ query: stored, resources, range: timeRange, onChange, onRunQuery }: Props) {
  const prefix = React.useId();
  const range = useRange(timeRange);
  const query = React.useMemo(() => migrateVariableQuery(stored), [stored]);
  const selector = query.labelSelector ?? '{}';
  const error = selector.includes('$') ? undefined : validateSelector(selector);

  const update = (change: Partial<VariableQuery>) => {
    onChange({ ...query, ...change });
    onRunQuery();
  };
  const labels = async (typed: string) =>
    complete(await resources.labelNames(range, error ? undefined : selector), typed);

  return (
    <EditorRow>
      <EditorField label={t('variable-editor.kind', 'Variable of')} htmlFor={`${prefix}-kind`}>
        <Combobox<VariableKind>
          id={`${prefix}-kind`}
          data-testid={selectors.variableEditor.kind}
          width={24}
          options={getKinds()}
          value={query.kind}
          onChange={({ value }) => update({ kind: value })}
        />
      </EditorField>
      {query.kind === 'labelValues' && (
        <EditorField label={t('variable-editor.label', 'Label')} htmlFor={`${prefix}-label`}>
          <Combobox
            id={`${prefix}-label`}
            data-testid={selectors.variableEditor.label}
            width={24}
            placeholder={t('variable-editor.label-placeholder', 'Choose a label')}
            createCustomValue
            options={labels}
            value={query.label ?? null}
            onChange={({ value }) => update({ label: value })}
          />
        </EditorField>
      )}
      {query.kind !== 'profileTypes' && (
        <EditorField
          label={t('variable-editor.selector', 'Of series that match')}
          htmlFor={`${prefix}-selector`}
          tooltip={t('variable-editor.selector-tooltip', 'Other variables may stand in it')}
          error={error}
        >
          <div data-testid={selectors.variableEditor.selector}>
            <SelectorInput
              id={`${prefix}-selector`}
              value={selector}
              invalid={error !== undefined}
              onChange={(labelSelector) => update({ labelSelector })}
            />
          </div>
        </EditorField>
      )}
    </EditorRow>
  );
}
