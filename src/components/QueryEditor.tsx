import { css } from '@emotion/css';
import { type GrafanaTheme2, type QueryEditorProps } from '@grafana/data';
import { RadioButtonGroup, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { type ProfileDataSource } from '../datasource';
import { migrateQuery } from '../migrate';
import { validateSelector } from '../selector';
import { selectors } from '../selectors';
import { type DataSourceOptions, type ProfileQuery } from '../types';
import { EditorField, EditorRow } from './EditorField';
import { LabelFilters } from './LabelFilters';
import { ProfileTypeSelect } from './ProfileTypeSelect';
import { QueryOptions } from './QueryOptions';
import { SelectorInput } from './SelectorInput';
import { ServiceSelect } from './ServiceSelect';
import { useRange } from './useRange';

type Props = QueryEditorProps<ProfileDataSource, ProfileQuery, DataSourceOptions>;

type Mode = 'builder' | 'text';

const MODES: Array<{ value: Mode; label: string }> = [
  { value: 'builder', label: 'Builder' },
  { value: 'text', label: 'Text' },
];

/** Edits a query in panels, Explore, alert rules and annotations. */
export function QueryEditor({ query: stored, datasource, range: timeRange, onChange, onRunQuery }: Props) {
  const styles = useStyles2(getStyles);
  const prefix = React.useId();
  const [mode, setMode] = React.useState<Mode>('builder');
  const range = useRange(timeRange);
  const query = React.useMemo(() => migrateQuery(stored), [stored]);
  const { resources } = datasource;

  const id = (name: string) => `${prefix}-${name}`;
  const update = (change: Partial<ProfileQuery>) => {
    onChange({ ...query, ...change });
    onRunQuery();
  };
  const setSelector = (labelSelector: string) => update({ labelSelector });

  // A selector that can't be taken apart, such as one with a variable for a
  // whole matcher, is text; only one without variables is known to be wrong.
  const problem = validateSelector(query.labelSelector);
  const error = query.labelSelector.includes('$') ? undefined : problem;
  const shownMode = problem ? 'text' : mode;

  return (
    <div className={styles.editor} data-testid={selectors.queryEditor.root}>
      <EditorRow>
        <EditorField label="Service" htmlFor={id('service')}>
          <ServiceSelect
            id={id('service')}
            selector={query.labelSelector}
            range={range}
            resources={resources}
            onChange={setSelector}
          />
        </EditorField>
        <EditorField label="Profile type" htmlFor={id('profile-type')}>
          <ProfileTypeSelect
            id={id('profile-type')}
            value={query.profileTypeId}
            range={range}
            resources={resources}
            onChange={(profileTypeId) => update({ profileTypeId })}
          />
        </EditorField>
        <EditorField
          label={shownMode === 'text' ? 'Label selector' : 'Label filters'}
          htmlFor={id('filters')}
          error={error}
        >
          <div className={styles.filters}>
            {shownMode === 'text' ? (
              <SelectorInput
                id={id('filters')}
                value={query.labelSelector}
                invalid={error !== undefined}
                onChange={setSelector}
              />
            ) : (
              <LabelFilters
                id={id('filters')}
                selector={query.labelSelector}
                range={range}
                resources={resources}
                onChange={setSelector}
              />
            )}
            <div data-testid={selectors.queryEditor.selectorMode}>
              <RadioButtonGroup
                size="sm"
                aria-label="How labels are edited"
                options={MODES}
                value={shownMode}
                disabledOptions={problem ? ['builder'] : []}
                onChange={setMode}
              />
            </div>
          </div>
        </EditorField>
      </EditorRow>
      <QueryOptions query={query} range={range} resources={resources} id={id} onChange={update} />
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  editor: css({
    display: 'flex',
    flexDirection: 'column',
    gap: theme.spacing(1.5),
  }),
  filters: css({
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'center',
    gap: theme.spacing(1),
  }),
});
