import { css } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { t } from '@grafana/i18n';
import { Button, Combobox, IconButton, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { complete, completeFound, isNote } from '../completion';
import { formatSelector, type Matcher, type Operator, OPERATORS, SERVICE_LABEL, tryParseSelector } from '../selector';
import { selectors } from '../selectors';
import { type Range, type Resources } from '../types';
import { UNESCAPED } from '../unescaped';

interface Props {
  id: string;
  selector: string;
  range: Range;
  resources: Resources;
  onChange: (selector: string) => void;
}

/** A matcher that is being written: it joins the selector when it has a name and a value. */
const EMPTY: Matcher = { name: '', op: '=', value: '' };

const OPERATOR_OPTIONS = OPERATORS.map((value) => ({ value, label: value }));

/**
 * The matchers of a selector, each as name, operator and value with
 * completion. The service has a select of its own and is left out, unless
 * there are several matchers on it.
 */
export function LabelFilters({ id, selector, range, resources, onChange }: Props) {
  const styles = useStyles2(getStyles);
  const [draft, setDraft] = React.useState<Matcher>();
  const matchers = tryParseSelector(selector) ?? [];
  const service = matchers.find((m) => m.name === SERVICE_LABEL);
  const shown = matchers.filter((m) => m !== service);

  const save = (filters: Matcher[]) => onChange(formatSelector(service ? [service, ...filters] : filters));
  const replace = (index: number, matcher: Matcher) => save(shown.map((m, i) => (i === index ? matcher : m)));
  const others = (index: number) => matchers.filter((m) => m !== shown[index]);
  const updateDraft = (matcher: Matcher) => {
    if (matcher.name && matcher.value) {
      setDraft(undefined);
      save([...shown, matcher]);
    } else {
      setDraft(matcher);
    }
  };

  return (
    <div className={styles.filters}>
      {shown.map((matcher, index) => (
        <Filter
          key={index}
          id={`${id}-${index}`}
          matcher={matcher}
          others={others(index)}
          range={range}
          resources={resources}
          onChange={(m) => replace(index, m)}
          onRemove={() => save(shown.filter((_, i) => i !== index))}
        />
      ))}
      {draft && (
        <Filter
          id={`${id}-draft`}
          matcher={draft}
          others={matchers}
          range={range}
          resources={resources}
          onChange={updateDraft}
          onRemove={() => setDraft(undefined)}
        />
      )}
      <Button
        id={id}
        variant="secondary"
        icon="plus"
        aria-label={t('label-filters.add', 'Add a label filter')}
        data-testid={selectors.queryEditor.addFilter}
        disabled={draft !== undefined}
        onClick={() => setDraft(EMPTY)}
      />
    </div>
  );
}

interface FilterProps {
  id: string;
  matcher: Matcher;
  /** The other matchers, which narrow the completions. */
  others: Matcher[];
  range: Range;
  resources: Resources;
  onChange: (matcher: Matcher) => void;
  onRemove: () => void;
}

function Filter({ id, matcher, others, range, resources, onChange, onRemove }: FilterProps) {
  const styles = useStyles2(getStyles);
  const narrowed = formatSelector(others);

  return (
    <div className={styles.filter}>
      <Combobox
        id={`${id}-name`}
        data-testid={selectors.queryEditor.filterName}
        placeholder={t('label-filters.label', 'Label')}
        createCustomValue
        width="auto"
        minWidth={14}
        maxWidth={30}
        value={matcher.name || null}
        options={async (typed) => complete(await resources.labelNames(range, narrowed), typed)}
        onChange={({ value }) => onChange({ ...matcher, name: value, value: value === matcher.name ? matcher.value : '' })}
      />
      <Combobox<Operator>
        id={`${id}-op`}
        data-testid={selectors.queryEditor.filterOperator}
        width={8}
        value={matcher.op}
        options={OPERATOR_OPTIONS}
        onChange={({ value }) => onChange({ ...matcher, op: value })}
      />
      <Combobox
        id={`${id}-value`}
        data-testid={selectors.queryEditor.filterValue}
        placeholder={t('label-filters.value', 'Value')}
        createCustomValue
        width="auto"
        minWidth={16}
        maxWidth={40}
        value={matcher.value || null}
        disabled={!matcher.name}
        options={async (typed) => completeFound(await resources.completeValues(range, matcher.name, typed, narrowed))}
        onChange={({ value }) => !isNote(value) && onChange({ ...matcher, value })}
      />
      <IconButton
        name="times"
        size="md"
        aria-label={
          matcher.name
            ? t('label-filters.remove', 'Remove the filter on {{label}}', { label: matcher.name, interpolation: UNESCAPED })
            : t('label-filters.remove-draft', 'Remove the filter that has no label')
        }
        data-testid={selectors.queryEditor.removeFilter}
        onClick={onRemove}
      />
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  filters: css({
    display: 'flex',
    flexWrap: 'wrap',
    alignItems: 'center',
    gap: theme.spacing(1),
  }),
  filter: css({
    display: 'flex',
    alignItems: 'center',
    gap: theme.spacing(0.25),
  }),
});
