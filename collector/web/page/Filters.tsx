import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { EditorField, EditorRow } from '../../../src/components/EditorField';
import { LabelFilters } from '../../../src/components/LabelFilters';
import { ProfileTypeSelect } from '../../../src/components/ProfileTypeSelect';
import { SelectorInput } from '../../../src/components/SelectorInput';
import { ServiceSelect } from '../../../src/components/ServiceSelect';
import { validateSelector } from '../../../src/selector';
import { type Range } from '../../../src/types';
import { resources } from './api';
import { type PageState } from './urlState';
import { type SetState } from './useUrlState';

interface Props {
  state: PageState;
  range: Range;
  setState: SetState;
}

/** Chooses what is shown, with the components of the plugin's query editor. */
export function Filters({ state, range, setState }: Props) {
  const styles = useStyles2(getStyles);
  const { labelSelector, profileTypeId } = state;
  const error = validateSelector(labelSelector);
  const setSelector = (text: string) => setState({ labelSelector: text });
  return (
    <section aria-label="Filters" className={styles.filters}>
      <EditorRow>
        <EditorField label="Service" htmlFor="service">
          <ServiceSelect
            id="service"
            selector={labelSelector}
            range={range}
            resources={resources}
            onChange={setSelector}
          />
        </EditorField>
        <EditorField label="Profile type" htmlFor="profile-type">
          <ProfileTypeSelect
            id="profile-type"
            value={profileTypeId}
            range={range}
            resources={resources}
            onChange={(id) => setState({ profileTypeId: id })}
          />
        </EditorField>
        <EditorField label="Label filters" htmlFor="label-filters" error={error}>
          {error ? (
            <SelectorInput id="label-filters" value={labelSelector} invalid onChange={setSelector} />
          ) : (
            <LabelFilters
              id="label-filters"
              selector={labelSelector}
              range={range}
              resources={resources}
              onChange={setSelector}
            />
          )}
        </EditorField>
      </EditorRow>
    </section>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  filters: css({ padding: theme.spacing(0, 0.25) }),
});
