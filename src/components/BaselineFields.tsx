import { t } from '@grafana/i18n';
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

const getKinds = (): Array<{ value: BaselineKind; label: string; description: string }> => [
  {
    value: 'previous',
    label: t('baseline.previous', 'Previous window'),
    description: t('baseline.previous-description', 'Just before the time range, and as long'),
  },
  {
    value: 'offset',
    label: t('baseline.earlier', 'Earlier'),
    description: t('baseline.earlier-description', 'The same time an hour, a day or a week earlier'),
  },
  {
    value: 'range',
    label: t('baseline.range', 'Absolute range'),
    description: t('baseline.range-description', 'A time range of its own'),
  },
  {
    value: 'same',
    label: t('baseline.same', 'Same window, other selector'),
    description: t('baseline.same-description', 'Two versions, hosts or services beside each other'),
  },
];

const withDescription = (value: string, description: string) => ({ value, label: value, description });
const getOffsets = () => [
  withDescription('1h', t('baseline.hour', 'An hour')),
  withDescription('1d', t('baseline.day', 'A day')),
  withDescription('1w', t('baseline.week', 'A week')),
];

type Labels = 'query' | 'own';

const getLabels = (): Array<{ value: Labels; label: string }> => [
  { value: 'query', label: t('baseline.labels-of-query', 'Of the query') },
  { value: 'own', label: t('baseline.other-labels', 'Other') },
];

/** Examples of what can be typed. */
const OFFSET = '1d';
const FROM = 'now-2d';
const TO = 'now-1d';

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
  const { kind, from, to } = baseline;
  const errors = validateBaseline(baseline, query.labelSelector);
  const update = (change: Partial<Baseline>) => onChange({ baseline: { ...baseline, ...change } });

  const setKind = (chosen: BaselineKind) =>
    update({
      kind: chosen,
      // What the chosen kind needs begins with something that makes sense.
      ...(chosen === 'offset' && !baseline.offset && { offset: '1d' }),
      ...(chosen === 'range' && from === undefined && to === undefined && windowBefore(range)),
    });
  const ownLabels = kind === 'same' || Boolean(baseline.labelSelector);
  const selector = baseline.labelSelector || query.labelSelector;
  const setSelector = (labelSelector: string) => update({ labelSelector });
  const timeTooltip = t(
    'baseline.time-tooltip',
    'Such as 2026-11-23T10:00:00Z, now-2d or Unix milliseconds; without a zone it is UTC'
  );

  return (
    <EditorRow testId={selectors.queryEditor.baseline}>
      <EditorField
        label={t('baseline.label', 'Baseline')}
        htmlFor={id('baseline')}
        tooltip={t('baseline.tooltip', 'The flame graph shows how the time range differs from it')}
      >
        <Combobox<BaselineKind>
          id={id('baseline')}
          data-testid={selectors.queryEditor.baselineKind}
          width={34}
          options={getKinds()}
          value={kind}
          onChange={({ value }) => setKind(value)}
        />
      </EditorField>
      {kind === 'offset' && (
        <EditorField
          label={t('baseline.offset', 'Offset')}
          htmlFor={id('baseline-offset')}
          tooltip={t('baseline.offset-tooltip', 'How much earlier; a day is 24 hours')}
          error={errors.offset}
        >
          <Combobox
            id={id('baseline-offset')}
            data-testid={selectors.queryEditor.baselineOffset}
            width={16}
            placeholder={OFFSET}
            createCustomValue
            invalid={errors.offset !== undefined}
            options={getOffsets()}
            value={baseline.offset || null}
            onChange={({ value }) => update({ offset: value.trim() })}
          />
        </EditorField>
      )}
      {kind === 'range' && (
        <>
          <EditorField
            label={t('baseline.from', 'From')}
            htmlFor={id('baseline-from')}
            tooltip={timeTooltip}
            error={errors.from}
          >
            <TextInput
              id={id('baseline-from')}
              data-testid={selectors.queryEditor.baselineFrom}
              width={28}
              placeholder={FROM}
              invalid={errors.from !== undefined}
              value={timeText(from)}
              onCommit={(text) => update({ from: text.trim() })}
            />
          </EditorField>
          <EditorField
            label={t('baseline.to', 'To')}
            htmlFor={id('baseline-to')}
            tooltip={timeTooltip}
            error={errors.to}
          >
            <TextInput
              id={id('baseline-to')}
              data-testid={selectors.queryEditor.baselineTo}
              width={28}
              placeholder={TO}
              invalid={errors.to !== undefined}
              value={timeText(to)}
              onCommit={(text) => update({ to: text.trim() })}
            />
          </EditorField>
        </>
      )}
      {kind !== 'same' && (
        <EditorField label={t('baseline.labels', 'Labels of the baseline')}>
          <div data-testid={selectors.queryEditor.baselineLabels}>
            <RadioButtonGroup
              aria-label={t('baseline.labels', 'Labels of the baseline')}
              options={getLabels()}
              value={ownLabels ? 'own' : 'query'}
              onChange={(labels) => update({ labelSelector: labels === 'own' ? selector : undefined })}
            />
          </div>
        </EditorField>
      )}
      {ownLabels && (
        <>
          <EditorField label={t('baseline.service', 'Service of the baseline')} htmlFor={id('baseline-service')}>
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
