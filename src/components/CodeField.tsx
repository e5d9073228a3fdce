import { css, cx } from '@emotion/css';
import { type GrafanaTheme2 } from '@grafana/data';
import { t } from '@grafana/i18n';
import { Input, useStyles2 } from '@grafana/ui';
import * as React from 'react';
import { formatCode, parseCode, suggest, type Suggestion, type Suggestions } from '../code';
import { selectors } from '../selectors';
import { type ProfileQuery, type ProfileType, type Range, type Resources } from '../types';
import { UNESCAPED } from '../unescaped';
import { EditorField } from './EditorField';

interface Props {
  id: string;
  query: ProfileQuery;
  range: Range;
  resources: Resources;
  /** Takes over a text that can be read; the query is run. */
  onChange: (change: Partial<ProfileQuery>) => void;
  /** Keeps a text that cannot be read. */
  onKeep: (code: string) => void;
}

/** How many completions are shown; more come with what is typed. */
const MAX_SHOWN = 100;

/**
 * Edits a query as text, with completions below. Arrow keys choose one, Enter
 * and Tab take it, Escape closes the list, Ctrl+Space opens it; Enter without
 * a list, and leaving the field, take over the text.
 */
export function CodeField({ id, query, range, resources, onChange, onKeep }: Props) {
  const styles = useStyles2(getStyles);
  const ref = React.useRef<HTMLInputElement>(null);
  const types = useTypes(range, resources);
  const current = query.code ?? formatCode(query, types ?? []);
  const [draft, setDraft] = React.useState<string>();
  const [shown, setShown] = React.useState<Suggestions>();
  const [active, setActive] = React.useState(0);
  const cursor = React.useRef<number>();
  const asked = React.useRef(0);
  const text = draft ?? current;
  const list = shown?.list.slice(0, MAX_SHOWN) ?? [];

  // Set after the text: an input whose text is replaced has its cursor at the end.
  React.useLayoutEffect(() => {
    if (cursor.current !== undefined) {
      ref.current?.setSelectionRange(cursor.current, cursor.current);
      cursor.current = undefined;
    }
  });

  const close = () => {
    asked.current++;
    setShown(undefined);
  };
  const complete = async (typed: string, position: number) => {
    const request = ++asked.current;
    const found = await suggest(typed, position, range, resources).catch(() => undefined);
    if (request === asked.current) {
      setShown(found?.list.length ? found : undefined);
      setActive(0);
    }
  };
  const commit = () => {
    close();
    setDraft(undefined);
    const typed = draft ?? query.code;
    if (typed === undefined || (typed === current && query.code === undefined)) {
      return;
    }
    try {
      onChange({ ...parseCode(typed, types ?? []), code: undefined });
    } catch {
      if (typed !== query.code) {
        onKeep(typed);
      }
    }
  };
  const take = ({ insert }: Suggestion, { from, to }: Suggestions) => {
    const next = text.slice(0, from) + insert + text.slice(to);
    setDraft(next);
    cursor.current = from + insert.length - (insert.endsWith('{}') ? 1 : 0);
    close();
  };

  const onKeyDown = (event: React.KeyboardEvent<HTMLInputElement>) => {
    const { key } = event;
    const option = list[active];
    if (key === ' ' && event.ctrlKey) {
      void complete(text, event.currentTarget.selectionStart ?? text.length);
    } else if (shown && (key === 'ArrowDown' || key === 'ArrowUp')) {
      setActive((active + (key === 'ArrowDown' ? 1 : list.length - 1)) % list.length);
    } else if (shown && option && (key === 'Enter' || key === 'Tab')) {
      take(option, shown);
    } else if (shown && key === 'Escape') {
      close();
    } else if (key === 'Enter') {
      commit();
      return;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const problem = types && draft === undefined ? problemOf(current, types) : undefined;
  const optionId = (index: number) => `${id}-option-${index}`;
  return (
    <EditorField
      label={t('code-field.label', 'Query')}
      htmlFor={id}
      tooltip={t('code-field.tooltip', 'A profile type and matchers of labels, such as {{example}}', {
        example: 'process_cpu:cpu{namespace="shop", pod=~"api-.*"}',
        interpolation: UNESCAPED,
      })}
      error={problem}
    >
      <div className={styles.field}>
        <Input
          id={id}
          ref={ref}
          className={styles.input}
          data-testid={selectors.queryEditor.code}
          role="combobox"
          aria-autocomplete="list"
          aria-expanded={list.length > 0}
          aria-controls={`${id}-list`}
          aria-activedescendant={list.length > 0 ? optionId(active) : undefined}
          autoComplete="off"
          spellCheck={false}
          invalid={problem !== undefined}
          value={text}
          onChange={(event) => {
            const { value, selectionStart } = event.currentTarget;
            setDraft(value);
            void complete(value, selectionStart ?? value.length);
          }}
          onKeyDown={onKeyDown}
          onBlur={commit}
        />
        {shown && list.length > 0 && (
          <ul id={`${id}-list`} role="listbox" className={styles.list} data-testid={selectors.queryEditor.codeSuggestions}>
            {list.map((option, index) => (
              <li
                key={option.label}
                id={optionId(index)}
                role="option"
                aria-selected={index === active}
                className={cx(styles.option, index === active && styles.active)}
                ref={index === active ? (element) => element?.scrollIntoView?.({ block: 'nearest' }) : undefined}
                onMouseDown={(event) => {
                  event.preventDefault(); // the input keeps the focus
                  take(option, shown);
                }}
              >
                {option.label} {option.description && <small>{option.description}</small>}
              </li>
            ))}
            {shown.more && <li className={styles.more}>{shown.more}</li>}
          </ul>
        )}
      </div>
    </EditorField>
  );
}

/** The profile types of a range; undefined until they are known, none where they cannot be asked for. */
function useTypes(range: Range, resources: Resources): ProfileType[] | undefined {
  const [types, setTypes] = React.useState<ProfileType[]>();
  React.useEffect(() => {
    let wanted = true;
    resources
      .profileTypes(range)
      .catch(() => [])
      .then((found) => wanted && setTypes(found));
    return () => {
      wanted = false;
    };
  }, [range, resources]);
  return types;
}

function problemOf(text: string, types: ProfileType[]): string | undefined {
  try {
    parseCode(text, types);
    return undefined;
  } catch (err) {
    return err instanceof Error ? err.message : String(err);
  }
}

const getStyles = (theme: GrafanaTheme2) => ({
  field: css({ position: 'relative', minWidth: 320 }),
  input: css({ '& input': { fontFamily: theme.typography.fontFamilyMonospace } }),
  list: css({
    position: 'absolute',
    zIndex: theme.zIndex.dropdown,
    top: '100%',
    left: 0,
    minWidth: '40%',
    maxHeight: 260,
    margin: 0,
    padding: theme.spacing(0.5, 0),
    overflowY: 'auto',
    listStyle: 'none',
    background: theme.colors.background.elevated ?? theme.colors.background.primary,
    border: `1px solid ${theme.colors.border.medium}`,
    borderRadius: theme.shape.radius.default,
    boxShadow: theme.shadows.z2,
  }),
  option: css({
    padding: theme.spacing(0.5, 1),
    cursor: 'pointer',
    fontFamily: theme.typography.fontFamilyMonospace,
    '& small': { color: theme.colors.text.secondary, fontFamily: theme.typography.fontFamily },
  }),
  active: css({ background: theme.colors.action.focus }),
  more: css({ padding: theme.spacing(0.5, 1), color: theme.colors.text.secondary }),
});
