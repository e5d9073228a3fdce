import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { t } from '@grafana/i18n';
import { RadioButtonGroup, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { validateSelector } from '../selector';
import { selectors } from '../selectors';
import { type Range, type Resources } from '../types';
import { EditorField } from './EditorField';
import { LabelFilters } from './LabelFilters';
import { SelectorInput } from './SelectorInput';

interface Props {
  id: string;
  selector: string;
  /** What is wrong with the selector although it can be read. */
  error?: string;
  /** Whether users choose between filters and text; else text is shown only where filters cannot be. */
  modes?: boolean;
  range: Range;
  resources: Resources;
  onChange: (selector: string) => void;
}

type Mode = 'builder' | 'text';

const getModes = (): Array<{ value: Mode; label: string }> => [
  { value: 'builder', label: t('selector-field.builder', 'Builder') },
  { value: 'text', label: t('selector-field.text', 'Text') },
];

/** Edits a selector: as filters with completion, or as text. */
export function SelectorField({ id, selector, error: misplaced, modes = true, range, resources, onChange }: Props) {
  const styles = useStyles2(getStyles);
  const [mode, setMode] = React.useState<Mode>('builder');

  // A selector that can't be taken apart, such as one with a variable for a
  // whole matcher, is text; only one without variables is known to be wrong.
  const problem = validateSelector(selector);
  const error = (selector.includes('$') ? undefined : problem) ?? misplaced;
  const shownMode = problem ? 'text' : mode;
  const label =
    shownMode === 'text'
      ? t('selector-field.selector', 'Label selector')
      : t('selector-field.filters', 'Label filters');

  return (
    <EditorField label={label} htmlFor={id} error={error}>
      <div className={styles.filters}>
        {shownMode === 'text' ? (
          <SelectorInput id={id} value={selector} invalid={error !== undefined} onChange={onChange} />
        ) : (
          <LabelFilters id={id} selector={selector} range={range} resources={resources} onChange={onChange} />
        )}
        {modes && (
          <div data-testid={selectors.queryEditor.selectorMode}>
            <RadioButtonGroup
              size="sm"
              aria-label={t('selector-field.modes', 'How labels are edited')}
              options={getModes()}
              value={shownMode}
              disabledOptions={problem ? ['builder'] : []}
              onChange={setMode}
            />
          </div>
        )}
      </div>
    </EditorField>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  filters: css({
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'center',
    gap: theme.spacing(1),
  }),
});
