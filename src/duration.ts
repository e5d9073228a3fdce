/** What the user is told whose duration is none. */
export const DURATION_HINT = 'A step is a duration such as 15s or 1m';

/** Whether a text is a duration as Prometheus writes it: 15s, 1m30s. */
export function isDuration(text: string): boolean {
  return /^(\d+(ms|[smhdwy]))+$/.test(text);
}
