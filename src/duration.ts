import { t } from '@grafana/i18n';

/** What the user is told whose duration is none. */
export const durationHint = () => t('duration.step', 'A step is a duration such as 15s or 1m');

/** Whether a text is a duration as Prometheus writes it: 15s, 1m30s. */
export function isDuration(text: string): boolean {
  return /^(\d+(ms|[smhdwy]))+$/.test(text);
}

/** What the user is told whose offset is none. */
export const offsetHint = () =>
  t('duration.offset', 'An offset is a duration such as 1h, 1d or 2h30m, the largest unit first');

/** Whether a text is a duration of more than 0 whose units are in order, as Prometheus requires. */
export function isOffset(text: string): boolean {
  return /^(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$/.test(text) && /[1-9]/.test(text);
}

/** The length of an offset in milliseconds: a year has 365 days. */
export function offsetMs(text: string): number {
  const units: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5, y: 31536e6 };
  return [...text.matchAll(/(\d+)(ms|[smhdwy])/g)].reduce((sum, [, n, unit = '']) => sum + Number(n) * (units[unit] ?? 0), 0);
}
