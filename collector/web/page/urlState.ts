import { dateMath, dateTime, type RawTimeRange, type TimeRange } from '@grafana/data';
import { DEFAULT_PROFILE_TYPE } from '../../../src/types';

export type ThemeName = 'light' | 'dark';

/** What the page shows; all of it stands in the URL. */
export interface PageState {
  /** Unix milliseconds, or relative such as now-15m, as in Grafana's URLs. */
  from: string;
  to: string;
  profileTypeId: string;
  labelSelector: string;
  /** The time between refreshes such as 10s; empty: none. */
  refresh: string;
  /** Unset: what the browser prefers. */
  theme?: ThemeName;
  /** What a link, such as that of an alert, could not take over. */
  notice?: string;
}

export const DEFAULT_STATE: PageState = {
  from: 'now-15m',
  to: 'now',
  profileTypeId: DEFAULT_PROFILE_TYPE,
  labelSelector: '{}',
  refresh: '10s',
};

const FIELDS = ['from', 'to', 'profileTypeId', 'labelSelector', 'refresh'] as const;

/** The state of a URL's query string; what it does not hold is the default. */
export function parseState(search: string): PageState {
  const params = new URLSearchParams(search);
  const state = { ...DEFAULT_STATE };
  for (const field of FIELDS) {
    const value = params.get(field);
    if (value !== null && (value !== '' || field === 'refresh')) {
      state[field] = value;
    }
  }
  const theme = params.get('theme');
  const notice = params.get('notice');
  const { from, to } = validRange(state);
  return {
    ...state,
    from,
    to,
    ...((theme === 'light' || theme === 'dark') && { theme }),
    ...(notice && { notice }),
  };
}

/** The query string of a state; defaults are left out but for the time range. */
export function formatState(state: PageState): string {
  const params = new URLSearchParams();
  for (const field of FIELDS) {
    if (field === 'from' || field === 'to' || state[field] !== DEFAULT_STATE[field]) {
      params.set(field, state[field]);
    }
  }
  if (state.theme) {
    params.set('theme', state.theme);
  }
  if (state.notice) {
    params.set('notice', state.notice);
  }
  return `?${params.toString()}`;
}

/** The times of a range at this moment. */
export function resolveRange({ from, to }: Pick<PageState, 'from' | 'to'>): TimeRange {
  const now = Date.now();
  const start = toDate(from, false, now);
  const end = toDate(to, true, now);
  return { from: dateTime(start), to: dateTime(end), raw: rawRange(from, to, start, end) };
}

/** Whether a range moves with the clock, so that refreshing changes it. */
export function isLive(to: string): boolean {
  return to.includes('now');
}

/** A range for the URL from one of Grafana's pickers. */
export function fromRaw({ from, to }: RawTimeRange): Pick<PageState, 'from' | 'to'> {
  const text = (time: RawTimeRange['from']) => (typeof time === 'string' ? time : String(time.valueOf()));
  return { from: text(from), to: text(to) };
}

function rawRange(from: string, to: string, start: number, end: number): RawTimeRange {
  return isLive(from) || isLive(to) ? { from, to } : { from: dateTime(start), to: dateTime(end) };
}

function toDate(text: string, roundUp: boolean, now: number): number {
  if (/^-?\d+$/.test(text)) {
    return Number(text);
  }
  return dateMath.toDateTime(text, { roundUp, now })?.valueOf() ?? NaN;
}

/** The range of a state, or the default one where it is none. */
function validRange({ from, to }: PageState): Pick<PageState, 'from' | 'to'> {
  const now = Date.now();
  return toDate(from, false, now) < toDate(to, true, now) ? { from, to } : DEFAULT_STATE;
}
