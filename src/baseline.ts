import { t } from '@grafana/i18n';
import { isOffset, offsetHint } from './duration';
import { formatSelector, tryParseSelector } from './selector';
import { type Baseline, type ProfileQuery, type Range } from './types';

/** What is wrong with the fields of a baseline, by field. */
export type BaselineErrors = Partial<Record<'offset' | 'from' | 'to' | 'labelSelector', string>>;

/** RFC 3339, also without seconds or a zone, and days. */
const DATE = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?<zone>Z|[+-]\d\d:\d\d)?)?$/;
/** Relative times and Unix times: what pkg/timeexpr reads further, roughly. */
const OTHER_TIME = /^(now|[+-]\s*\d|\d+[a-zA-Z]).*$|^\d+(\.\d+)?$/;

/** Whether a text looks like a time; the backend reads it, and knows better. */
export function isTime(text: string): boolean {
  return DATE.test(text) ? !Number.isNaN(milliseconds(text)) : OTHER_TIME.test(text);
}

/** The time of a date or of Unix milliseconds, else NaN. */
function milliseconds(text: string): number {
  if (/^\d{13}$/.test(text)) {
    return Number(text);
  }
  const match = DATE.exec(text);
  // The backend reads dates without a zone in UTC, JavaScript those with a time in the local zone.
  return match ? Date.parse(text.includes('T') && !match.groups?.['zone'] ? `${text}Z` : text) : NaN;
}

/**
 * Checks a baseline for a query of a selector. A field with variables is left
 * to the backend, which gets their values.
 */
export function validateBaseline(baseline: Baseline, labelSelector: string): BaselineErrors {
  const errors: BaselineErrors = {};
  switch (baseline.kind) {
    case 'offset': {
      const offset = baseline.offset?.trim() ?? '';
      if (!offset.includes('$') && !isOffset(offset)) {
        errors.offset = offsetHint();
      }
      break;
    }
    case 'range': {
      for (const field of ['from', 'to'] as const) {
        const text = timeText(baseline[field]);
        if (!text.includes('$') && !isTime(text)) {
          errors[field] = t('baseline.invalid-time', 'A time is 2026-11-23T10:00:00Z, now-1d or Unix milliseconds');
        }
      }
      if (milliseconds(timeText(baseline.from)) >= milliseconds(timeText(baseline.to))) {
        errors.to = t('baseline.ends-before-begin', 'The baseline ends before it begins');
      }
      break;
    }
    case 'same':
      if (isSameSelector(baseline.labelSelector || labelSelector, labelSelector)) {
        errors.labelSelector = t(
          'baseline.same-labels',
          'Of the same time, the baseline needs other labels than the query'
        );
      }
  }
  return errors;
}

/** A time as the input of its field shows it. */
export function timeText(time: string | number | undefined): string {
  return String(time ?? '').trim();
}

/** The window just before a range, as the editor begins with it. */
export function windowBefore({ from, to }: Range): { from: string; to: string } {
  return { from: new Date(from - (to - from)).toISOString(), to: new Date(from).toISOString() };
}

/** Whether a query compares with a baseline, so that one can be edited. */
export function hasBaseline({ queryType, baseline }: Pick<ProfileQuery, 'queryType' | 'baseline'>): boolean {
  return queryType === 'comparison' || queryType === 'explain' || (queryType === 'functions' && baseline !== undefined);
}

/** Whether two selectors have the same matchers, in any order. */
function isSameSelector(a: string, b: string): boolean {
  return canonical(a) === canonical(b);
}

function canonical(selector: string): string {
  const matchers = tryParseSelector(selector);
  if (!matchers) {
    return selector.trim();
  }
  return [...new Set(matchers.map((m) => formatSelector([m])))].sort().join();
}
