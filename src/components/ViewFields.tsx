import { t } from '@grafana/i18n';
import { Collapse, MultiCombobox, RadioButtonGroup, Switch } from '@grafana/ui';
import * as React from 'react';
import { complete } from '../completion';
import { foldSets } from '../foldSets';
import { selectors } from '../selectors';
import { type ProfileQuery, type Range, type Resources, type View } from '../types';
import { CountField } from './CountField';
import { EditorField, EditorRow } from './EditorField';
import { TextInput } from './SelectorInput';

type Direction = 'callers' | 'reverse';

const getDirections = (): Array<{ value: Direction; label: string; description: string }> => [
  {
    value: 'callers',
    label: t('view.callers-first', 'Callers first'),
    description: t('view.callers-first-description', 'From the program’s entry to the functions that it ends in'),
  },
  {
    value: 'reverse',
    label: t('view.reversed', 'Reversed'),
    description: t('view.reversed-description', 'The functions that stacktraces end in, with their callers below'),
  },
];

type Pattern = 'focus' | 'ignore' | 'hide' | 'showFrom';

const getPatterns = (): Array<{ field: Pattern; label: string; tooltip: string; placeholder: string }> => [
  {
    field: 'focus',
    label: t('view.focus', 'Focus'),
    tooltip: t('view.focus-tooltip', 'Only stacktraces with a matching frame.'),
    placeholder: t('view.focus-placeholder', 'All stacktraces'),
  },
  {
    field: 'ignore',
    label: t('view.ignore', 'Ignore'),
    tooltip: t('view.ignore-tooltip', 'Without the stacktraces that have a matching frame.'),
    placeholder: t('view.ignore-placeholder', 'None'),
  },
  {
    field: 'hide',
    label: t('view.hide', 'Hide'),
    tooltip: t('view.hide-tooltip', 'Without matching frames; their value goes to the caller.'),
    placeholder: t('view.hide-placeholder', 'None'),
  },
  {
    field: 'showFrom',
    label: t('view.show-from', 'Show from'),
    tooltip: t(
      'view.show-from-tooltip',
      'Without the frames above the outermost matching one; other stacktraces are left out.'
    ),
    placeholder: t('view.show-from-placeholder', 'The root'),
  },
];

interface Props {
  query: ProfileQuery;
  range: Range;
  resources: Resources;
  id: (name: string) => string;
  onChange: (change: Partial<ProfileQuery>) => void;
}

/** What a flame graph shows, folded away unless something is set. */
export function ViewFields({ query, range, resources, id, onChange }: Props) {
  const view = query.view ?? {};
  const [isOpen, setOpen] = React.useState(query.view !== undefined);
  const update = (change: Partial<View>) => {
    const set = Object.entries({ ...view, ...change }).filter(
      ([, value]) => value && !(Array.isArray(value) && value.length === 0)
    );
    onChange({ view: set.length > 0 ? Object.fromEntries(set) : undefined });
  };
  const patternHelp = t(
    'view.pattern-help',
    'Regular expression (RE2) for function names; with the prefix file: or binary: for source files, programs and libraries.'
  );
  return (
    <div data-testid={selectors.queryEditor.view}>
      <Collapse label={t('view.label', 'Flame graph options')} isOpen={isOpen} onToggle={() => setOpen(!isOpen)}>
        <EditorRow>
          {getPatterns().map(({ field, label, tooltip, placeholder }) => (
            <EditorField key={field} label={label} htmlFor={id(field)} tooltip={[tooltip, patternHelp].join(' ')}>
              <TextInput
                id={id(field)}
                data-testid={selectors.queryEditor[field]}
                width={24}
                placeholder={placeholder}
                value={view[field] ?? ''}
                onCommit={(text) => update({ [field]: text.trim() })}
              />
            </EditorField>
          ))}
          <EditorField
            label={t('view.fold', 'Fold')}
            htmlFor={id('fold')}
            tooltip={t('view.fold-tooltip', 'Successive frames of these become one')}
          >
            <MultiCombobox
              id={id('fold')}
              data-testid={selectors.queryEditor.fold}
              placeholder={t('view.fold-placeholder', 'Nothing')}
              width={30}
              value={view.fold ?? []}
              options={foldSets()}
              onChange={(options) => update({ fold: options.map(({ value }) => value) })}
            />
          </EditorField>
          <EditorField
            label={t('view.function', 'Only of function')}
            htmlFor={id('function')}
            tooltip={t(
              'view.function-tooltip',
              'All that this function calls or, reversed, all that call it; its name as the flame graph shows it'
            )}
          >
            <TextInput
              id={id('function')}
              data-testid={selectors.queryEditor.function}
              width={30}
              placeholder={t('view.function-placeholder', 'All functions')}
              value={view.function ?? ''}
              onCommit={(text) => update({ function: text.trim() })}
            />
          </EditorField>
          <EditorField label={t('view.direction', 'Direction')}>
            <div data-testid={selectors.queryEditor.direction}>
              <RadioButtonGroup
                aria-label={t('view.direction', 'Direction')}
                options={getDirections()}
                value={view.reverse ? 'reverse' : 'callers'}
                onChange={(direction) => update({ reverse: direction === 'reverse' })}
              />
            </div>
          </EditorField>
          <EditorField
            label={t('view.recursion', 'Collapse recursion')}
            htmlFor={id('recursion')}
            tooltip={t(
              'view.recursion-tooltip',
              'A call of a function that is on the stack already continues at its frame'
            )}
          >
            <Switch
              id={id('recursion')}
              data-testid={selectors.queryEditor.recursion}
              value={view.collapseRecursion ?? false}
              onChange={(event) => update({ collapseRecursion: event.currentTarget.checked })}
            />
          </EditorField>
          <CountField
            id={id('max-depth')}
            testId={selectors.queryEditor.maxDepth}
            label={t('view.levels', 'Levels')}
            tooltip={t('view.levels-tooltip', 'Deeper calls become one frame')}
            placeholder={t('view.levels-placeholder', 'All')}
            value={view.maxDepth}
            onChange={(maxDepth) => update({ maxDepth })}
          />
          <EditorField
            label={t('view.first-level', 'First level')}
            htmlFor={id('view-group-by')}
            tooltip={t(
              'view.first-level-tooltip',
              'Labels whose values have a frame each above all others, such as service_name, pod or comm'
            )}
          >
            <MultiCombobox
              id={id('view-group-by')}
              data-testid={selectors.queryEditor.viewGroupBy}
              placeholder={t('view.first-level-placeholder', 'Functions')}
              createCustomValue
              width={30}
              value={view.groupBy ?? []}
              options={async (typed: string) => complete(await resources.labelNames(range, query.labelSelector), typed)}
              onChange={(options) => update({ groupBy: options.map(({ value }) => value) })}
            />
          </EditorField>
        </EditorRow>
      </Collapse>
    </div>
  );
}
