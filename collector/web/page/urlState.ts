import { dateMath, dateTime, type RawTimeRange, type TimeRange } from '@grafana/data';
import {
  type Baseline,
  type BaselineKind,
  DEFAULT_BASELINE,
  DEFAULT_PROFILE_TYPE,
  type ProfileQuery,
} from '../../../src/types';
import { asView, type View } from './views';

export type ThemeName = 'light' | 'dark';

/** What a view shows and how much of it: fields of the query, each of which may be unset. */
type QueryFields = Partial<
  Pick<
    ProfileQuery,
    'baseline' | 'unit' | 'sort' | 'step' | 'maxNodes' | 'limit' | 'functions' | 'groupBy' | 'view' | 'heatmap' | 'rows'
  >
>;

/** What the page shows; all of it stands in the URL. */
export interface PageState extends QueryFields {
  /** Unix milliseconds, or relative such as now-15m, as in Grafana's URLs. */
  from: string;
  to: string;
  profileTypeId: string;
  labelSelector: string;
  queryType: View;
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
  queryType: 'profile',
  refresh: '10s',
};

const FIELDS = ['from', 'to', 'profileTypeId', 'labelSelector', 'refresh'] as const;
const COUNTS = ['maxNodes', 'limit', 'rows'] as const;
const LISTS = ['functions', 'groupBy'] as const;
const BASELINES: BaselineKind[] = ['previous', 'offset', 'range', 'same'];
/** The parameters of a baseline's fields; that of its kind is baseline. */
const BASELINE_PARAMS = {
  offset: 'baselineOffset',
  from: 'baselineFrom',
  to: 'baselineTo',
  labelSelector: 'baselineSelector',
} as const;
const BASELINE_FIELDS = Object.keys(BASELINE_PARAMS) as Array<keyof typeof BASELINE_PARAMS>;

/** The state of a URL's query string; what it does not hold is the default. */
export function parseState(search: string): PageState {
  const params = new URLSearchParams(search);
  const state: PageState = { ...DEFAULT_STATE, queryType: asView(params.get('queryType')) };
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
    ...parseQueryFields(params),
    from,
    to,
    ...((theme === 'light' || theme === 'dark') && { theme }),
    ...(notice && { notice }),
  };
}

function parseQueryFields(params: URLSearchParams): QueryFields {
  const fields: QueryFields = {};
  const unit = params.get('unit');
  if (unit) {
    fields.unit = unit as ProfileQuery['unit']; // the server's error names one that it does not know
  }
  const sort = params.get('sort');
  if (sort === 'own' || sort === 'total') {
    fields.sort = sort;
  }
  const heatmap = params.get('heatmap');
  if (heatmap === 'label' || heatmap === 'offset') {
    fields.heatmap = heatmap;
  }
  const step = params.get('step');
  if (step) {
    fields.step = step;
  }
  for (const field of COUNTS) {
    const count = Math.floor(Number(params.get(field)));
    if (count > 0) {
      fields[field] = count;
    }
  }
  const view = parseView(params.get('view'));
  if (view) {
    fields.view = view;
  }
  for (const field of LISTS) {
    const values = params.getAll(field).filter(Boolean);
    if (values.length > 0) {
      fields[field] = values;
    }
  }
  const kind = BASELINES.find((known) => known === params.get('baseline'));
  if (kind) {
    const baseline: Baseline = { kind };
    for (const field of BASELINE_FIELDS) {
      const value = params.get(BASELINE_PARAMS[field]);
      if (value) {
        baseline[field] = value;
      }
    }
    fields.baseline = baseline;
  }
  return fields;
}

/** The options of a flame graph from their JSON; the server's error names a field that is wrong. */
function parseView(text: string | null): ProfileQuery['view'] {
  try {
    const view: unknown = JSON.parse(text ?? 'null');
    return typeof view === 'object' && view !== null && !Array.isArray(view) ? view : undefined;
  } catch {
    return undefined;
  }
}

/** The query string of a state; defaults are left out but for the time range. */
export function formatState(state: PageState): string {
  const params = new URLSearchParams();
  for (const field of FIELDS) {
    if (field === 'from' || field === 'to' || state[field] !== DEFAULT_STATE[field]) {
      params.set(field, state[field]);
    }
  }
  if (state.queryType !== DEFAULT_STATE.queryType) {
    params.set('queryType', state.queryType);
  }
  for (const field of ['unit', 'sort', 'heatmap', 'step', ...COUNTS, 'theme', 'notice'] as const) {
    const value = state[field];
    if (value) {
      params.set(field, String(value));
    }
  }
  for (const field of LISTS) {
    for (const value of state[field] ?? []) {
      params.append(field, value);
    }
  }
  if (state.view) {
    params.set('view', JSON.stringify(state.view));
  }
  if (state.baseline) {
    params.set('baseline', state.baseline.kind);
    for (const field of BASELINE_FIELDS) {
      const value = state.baseline[field];
      if (value !== undefined && value !== '') {
        params.set(BASELINE_PARAMS[field], String(value));
      }
    }
  }
  return `?${params.toString()}`;
}

/** The change of a state that shows a view, with what that view needs and its own number of rows. */
export function showView(state: PageState, queryType: View): Partial<PageState> {
  const compares = queryType === 'comparison' || queryType === 'explain';
  return {
    queryType,
    ...(queryType !== state.queryType && { limit: undefined }),
    ...(compares && { baseline: state.baseline ?? DEFAULT_BASELINE }),
  };
}

/**
 * A state that shows the same to everyone and later on: of these times instead of
 * relative ones, without refreshes, and in the theme of who opens it.
 */
export function sharedState(state: PageState, now = Date.now()): PageState {
  const { baseline } = state;
  const fixed = (text: string, roundUp: boolean) => {
    const time = isLive(text) ? toDate(text, roundUp, now) : NaN;
    return Number.isNaN(time) ? text : String(time);
  };
  return {
    ...state,
    from: fixed(state.from, false),
    to: fixed(state.to, true),
    refresh: DEFAULT_STATE.refresh,
    theme: undefined,
    ...(baseline?.kind === 'range' && {
      baseline: {
        ...baseline,
        from: fixed(String(baseline.from ?? ''), false),
        to: fixed(String(baseline.to ?? ''), true),
      },
    }),
  };
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

/** A range for the URL from times in Unix milliseconds, which may be fractions. */
export function fromTimes({ from, to }: { from: number; to: number }): Pick<PageState, 'from' | 'to'> {
  return { from: String(Math.floor(from)), to: String(Math.ceil(to)) };
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
