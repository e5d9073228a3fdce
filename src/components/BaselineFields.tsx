import { Combobox, RadioButtonGroup } from '@grafana/ui';
import * as React from 'react';
import { timeText, validateBaseline, windowBefore } from '../baseline';
import { selectors } from '../selectors';
import {
  type Baseline,
  type BaselineKind,
  DEFAULT_BASELINE,
  type ProfileQuery,
  type Range,
  type Resources,
} from '../types';
import { EditorField, EditorRow } from './EditorField';
import { SelectorField } from './SelectorField';
import { TextInput } from './SelectorInput';
import { ServiceSelect } from './ServiceSelect';

const KINDS: Array<{ value: BaselineKind; label: string; description: string }> = [
  { value: 'previous', label: 'Previous window', description: 'Just before the time range, and as long' },
  { value: 'offset', label: 'Earlier', description: 'The same time an hour, a day or a week earlier' },
  { value: 'range', label: 'Absolute range', description: 'A time range of its own' },
  { value: 'same', label: 'Same window, other selector', description: 'Two versions, hosts or services beside each other' },
];

const OFFSETS = [
  { value: '1h', label: '1h', description: 'An hour' },
  { value: '1d', label: '1d', description: 'A day' },
  { value: '1w', label: '1w', description: 'A week' },
];

type Labels = 'query' | 'own';

const LABELS: Array<{ value: Labels; label: string }> = [
  { value: 'query', label: 'Of the query' },
  { value: 'own', label: 'Other' },
];

const TIME_TOOLTIP = 'Such as 2026-11-23T10:00:00Z, now-2d or Unix milliseconds; without a zone it is UTC';

interface Props {
  query: ProfileQuery;
  range: Range;
  resources: Resources;
  id: (name: string) => string;
  onChange: (change: Partial<ProfileQuery>) => void;
}

/** What a comparison compares with: a time, and labels. */
export function BaselineFields({ query, range, resources, id, onChange }: Props) {
  const baseline = query.baseline ?? DEFAULT_BASELINE;
  const { kind, offset, from, to } = baseline;
  const errors = validateBaseline(baseline, query.labelSelector);
  const update = (change: Partial<Baseline>) => onChange({ baseline: { ...baseline, ...change } });

  const setKind = (chosen: BaselineKind) =>
    update({
      kind: chosen,
      // What the chosen kind needs begins with something that makes sense.
      ...(chosen === 'offset' && !offset && { offset: '1d' }),
      ...(chosen === 'range' && from === undefined && to === undefined && windowBefore(range)),
    });
  const ownLabels = kind === 'same' || Boolean(baseline.labelSelector);
  const selector = baseline.labelSelector || query.labelSelector;
  const setSelector = (labelSelector: string) => update({ labelSelector });

  return (
    <EditorRow testId={selectors.queryEditor.baseline}>
      <EditorField
        label="Baseline"
        htmlFor={id('baseline')}
        tooltip="The flame graph shows how the time range differs from it"
      >
        <Combobox<BaselineKind>
          id={id('baseline')}
          data-testid={selectors.queryEditor.baselineKind}
          width={34}
          options={KINDS}
          value={kind}
          onChange={({ value }) => setKind(value)}
        />
      </EditorField>
      {kind === 'offset' && (
        <EditorField
          label="Offset"
          htmlFor={id('baseline-offset')}
          tooltip="How much earlier; a day is 24 hours"
          error={errors.offset}
        >
          <Combobox
            id={id('baseline-offset')}
            data-testid={selectors.queryEditor.baselineOffset}
            width={16}
            placeholder="1d"
            createCustomValue
            invalid={errors.offset !== undefined}
            options={OFFSETS}
            value={offset || null}
            onChange={({ value }) => update({ offset: value.trim() })}
          />
        </EditorField>
      )}
      {kind === 'range' && (
        <>
          <EditorField label="From" htmlFor={id('baseline-from')} tooltip={TIME_TOOLTIP} error={errors.from}>
            <TextInput
              id={id('baseline-from')}
              data-testid={selectors.queryEditor.baselineFrom}
              width={28}
              placeholder="now-2d"
              invalid={errors.from !== undefined}
              value={timeText(from)}
              onCommit={(text) => update({ from: text.trim() })}
            />
          </EditorField>
          <EditorField label="To" htmlFor={id('baseline-to')} tooltip={TIME_TOOLTIP} error={errors.to}>
            <TextInput
              id={id('baseline-to')}
              data-testid={selectors.queryEditor.baselineTo}
              width={28}
              placeholder="now-1d"
              invalid={errors.to !== undefined}
              value={timeText(to)}
              onCommit={(text) => update({ to: text.trim() })}
            />
          </EditorField>
        </>
      )}
      {kind !== 'same' && (
        <EditorField label="Labels of the baseline">
          <div data-testid={selectors.queryEditor.baselineLabels}>
            <RadioButtonGroup
              aria-label="Labels of the baseline"
              options={LABELS}
              value={ownLabels ? 'own' : 'query'}
              onChange={(labels) => update({ labelSelector: labels === 'own' ? selector : undefined })}
            />
          </div>
        </EditorField>
      )}
      {ownLabels && (
        <>
          <EditorField label="Service of the baseline" htmlFor={id('baseline-service')}>
            <ServiceSelect
              id={id('baseline-service')}
              selector={selector}
              range={range}
              resources={resources}
              onChange={setSelector}
            />
          </EditorField>
          <SelectorField
            id={id('baseline-filters')}
            selector={selector}
            error={errors.labelSelector}
            range={range}
            resources={resources}
            onChange={setSelector}
          />
        </>
      )}
    </EditorRow>
  );
}
