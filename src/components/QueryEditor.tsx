import { css } from '@emotion/css';
import { type GrafanaTheme2, type QueryEditorProps } from '@grafana/data';
import { t } from '@grafana/i18n';
import { RadioButtonGroup, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { hasBaseline } from '../baseline';
import { type ProfileDataSource } from '../datasource';
import { migrateQuery } from '../migrate';
import { selectors } from '../selectors';
import { type DataSourceOptions, type EditorMode, type ProfileQuery } from '../types';
import { BaselineFields } from './BaselineFields';
import { CodeField } from './CodeField';
import { EditorField, EditorRow } from './EditorField';
import { ForeignFields } from './ForeignFields';
import { HeatmapFields } from './HeatmapFields';
import { ProfileTypeSelect } from './ProfileTypeSelect';
import { QueryOptions } from './QueryOptions';
import { SelectorField } from './SelectorField';
import { ServiceSelect } from './ServiceSelect';
import { useRange } from './useRange';
import { ViewFields } from './ViewFields';

type Props = QueryEditorProps<ProfileDataSource, ProfileQuery, DataSourceOptions>;

const getModes = (): Array<{ value: EditorMode; label: string }> => [
  { value: 'builder', label: t('query-editor.builder', 'Builder') },
  { value: 'code', label: t('query-editor.code', 'Code') },
];

/** Edits a query in panels, Explore, alert rules and annotations. */
export function QueryEditor({ query: stored, datasource, range: timeRange, onChange, onRunQuery }: Props) {
  const styles = useStyles2(getStyles);
  const prefix = React.useId();
  const range = useRange(timeRange);
  const query = React.useMemo(() => migrateQuery(stored), [stored]);
  const { resources } = datasource;

  const id = (name: string) => `${prefix}-${name}`;
  const update = (change: Partial<ProfileQuery>) => {
    onChange({ ...query, ...change });
    onRunQuery();
  };
  const codeMode = query.editorMode === 'code';
  const setSelector = (labelSelector: string) => update({ labelSelector });

  return (
    <div className={styles.editor} data-testid={selectors.queryEditor.root}>
      <div className={styles.mode} data-testid={selectors.queryEditor.editorMode}>
        <RadioButtonGroup<EditorMode>
          size="sm"
          aria-label={t('query-editor.modes', 'How the query is edited')}
          options={getModes()}
          value={query.editorMode ?? 'builder'}
          disabledOptions={query.code === undefined ? [] : ['builder']}
          onChange={(editorMode) => onChange({ ...query, editorMode })}
        />
      </div>
      {codeMode ? (
        <CodeField
          id={id('code')}
          query={query}
          range={range}
          resources={resources}
          onChange={update}
          onKeep={(code) => onChange({ ...query, code })}
        />
      ) : (
        <EditorRow>
          <EditorField label={t('query-editor.service', 'Service')} htmlFor={id('service')}>
            <ServiceSelect
              id={id('service')}
              selector={query.labelSelector}
              range={range}
              resources={resources}
              onChange={setSelector}
            />
          </EditorField>
          <EditorField label={t('query-editor.profile-type', 'Profile type')} htmlFor={id('profile-type')}>
            <ProfileTypeSelect
              id={id('profile-type')}
              value={query.profileTypeId}
              range={range}
              resources={resources}
              onChange={(profileTypeId) => update({ profileTypeId })}
            />
          </EditorField>
          <SelectorField
            id={id('filters')}
            selector={query.labelSelector}
            range={range}
            resources={resources}
            modes={false}
            onChange={setSelector}
          />
        </EditorRow>
      )}
      <QueryOptions query={query} range={range} resources={resources} id={id} onChange={update} />
      {query.queryType === 'heatmap' && (
        <HeatmapFields query={query} range={range} resources={resources} id={id} onChange={update} />
      )}
      {hasBaseline(query) && (
        <BaselineFields query={query} range={range} resources={resources} id={id} onChange={update} />
      )}
      {(query.queryType === 'profile' || query.queryType === 'both' || query.queryType === 'comparison') && (
        <ViewFields query={query} range={range} resources={resources} id={id} onChange={update} />
      )}
      <ForeignFields query={query} onChange={update} />
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  editor: css({
    display: 'flex',
    flexDirection: 'column',
    gap: theme.spacing(1.5),
  }),
  mode: css({ alignSelf: 'flex-end' }),
});
