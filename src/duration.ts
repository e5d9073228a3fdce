/** What the user is told whose duration is none. */
export const DURATION_HINT = 'A step is a duration such as 15s or 1m';

/** Whether a text is a duration as Prometheus writes it: 15s, 1m30s. */
export function isDuration(text: string): boolean {
  return /^(\d+(ms|[smhdwy]))+$/.test(text);
}

/** What the user is told whose offset is none. */
export const OFFSET_HINT = 'An offset is a duration such as 1h, 1d or 2h30m, the largest unit first';

/** Whether a text is a duration of more than 0 whose units are in order, as Prometheus requires. */
export function isOffset(text: string): boolean {
  return /^(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$/.test(text) && /[1-9]/.test(text);
}
