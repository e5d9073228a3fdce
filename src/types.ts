import { type DataSourceJsonData } from '@grafana/data';
import { type DataQuery } from '@grafana/schema';

/**
 * What a query returns: a flame graph, a series over time, both, a flame graph
 * compared with a baseline, a table of functions, functions over time, or a table of
 * what accounts for a change, or a heat map; for marks on charts, when a profile type
 * had values.
 */
export type QueryType =
  | 'profile'
  | 'metrics'
  | 'both'
  | 'comparison'
  | 'functions'
  | 'functionSeries'
  | 'explain'
  | 'heatmap'
  | 'annotations';

/** What the rows of a heat map are: values of labels, or parts of a second. */
export type HeatmapRows = 'label' | 'offset';

/** Which values of functions count: their own, or with all that they call. */
export type FunctionOrder = 'own' | 'total';

/**
 * The time of a baseline: just before the query's and as long, the query's
 * time some duration earlier, a range of its own, or the query's.
 */
export type BaselineKind = 'previous' | 'offset' | 'range' | 'same';

/** What a comparison compares with; the backend reads it as pkg/query/baseline.go says. */
export interface Baseline {
  kind: BaselineKind;
  /** A duration as Prometheus writes it, such as 1d or 2h30m; only for offset. */
  offset?: string;
  /** Unix milliseconds, or a time such as 2026-11-23T10:00:00Z or now-1d; only for range. */
  from?: string | number;
  to?: string | number;
  /** Replaces the query's selector; unset: the query's. */
  labelSelector?: string;
}

export const DEFAULT_BASELINE: Baseline = { kind: 'previous' };

/** The unit of flame graphs and tables: values, CPU time per time, shares of the whole, or numbers of samples. */
export type Unit = 'time' | 'cores' | 'percent' | 'samples';

/** What a flame graph shows; pkg/profile/view has what each field does. */
export interface View {
  /** Labels whose values have frames below the root. */
  groupBy?: string[];
  /** Regular expressions; after file: or binary: for source files, or programs and libraries. */
  focus?: string;
  ignore?: string;
  hide?: string;
  showFrom?: string;
  /** Values of foldSets. */
  fold?: string[];
  /** A function, with all that it calls or, with reverse, all that call it. */
  function?: string;
  collapseRecursion?: boolean;
  reverse?: boolean;
  maxDepth?: number;
}

/** Fields for each part of a query, or all of it as a text. */
export type EditorMode = 'builder' | 'code';

/** The version of the query model that this code writes. */
export const QUERY_VERSION = 1;

export const DEFAULT_PROFILE_TYPE = 'process_cpu:cpu:nanoseconds:cpu:nanoseconds';

/**
 * A query as it stands in a dashboard's JSON: a superset of the model of
 * Grafana's Pyroscope data source, so that panels move over unchanged.
 */
export interface ProfileQuery extends DataQuery {
  version?: number;
  queryType?: QueryType;
  /** `name:sample_type:sample_unit:period_type:period_unit` */
  profileTypeId: string;
  /** Matchers in PromQL braces. */
  labelSelector: string;
  /** One series per combination of the values of these labels. */
  groupBy?: string[];
  /** The number of series, the largest first; 0 or unset: all. Of functions; unset: 100, over time 10, in explain 20. Of heat maps; unset: 20. */
  limit?: number;
  /** The number of flame graph nodes; unset: the server's default. */
  maxNodes?: number;
  spanSelector?: string[];
  /** IDs of single profiles; only for flame graphs. */
  profileIdSelector?: string[];
  /** Whether a series has annotations of what a Pyroscope server notes on profiles, such as that its limit was reached. */
  annotations?: boolean;
  /** Kept of the Pyroscope data source's model: a notice says that there are none of these here. */
  includeExemplars?: boolean;
  includeHeatmap?: boolean;
  heatmapType?: string;
  /** A duration such as 15s; unset: the panel's interval. */
  step?: string;
  unit?: Unit;
  /** For comparison and explain; unset: DEFAULT_BASELINE. For functions; unset: no comparison. */
  baseline?: Baseline;
  /** Only for functions and functionSeries; unset: own. */
  sort?: FunctionOrder;
  /** Names of functions; only for functionSeries; unset: the largest. */
  functions?: string[];
  /** Only for heatmap; unset: label. */
  heatmap?: HeatmapRows;
  /** The number of rows of a heat map by offset: 1, 2, 5, 10, 25 or 50; unset: 50. */
  rows?: number;
  /** Only for flame graphs. */
  view?: View;
  /** How the query is edited; unset: builder. */
  editorMode?: EditorMode;
  /** What was typed as code and cannot be read; the other fields are those of before. */
  code?: string;
  /** Shown with the result: what a link could not take over. */
  notice?: string;
}

export type VariableKind = 'profileTypes' | 'labelNames' | 'labelValues';

/** What a dashboard variable asks for. */
export interface VariableQuery extends DataQuery {
  kind: VariableKind;
  /** The label whose values are wanted; only for labelValues. */
  label?: string;
  labelSelector?: string;
  profileTypeId?: string;
}

/** Which label of profiles has the values of a label of metrics. */
export interface LabelMapping {
  metrics: string;
  profiles: string;
}

/** The settings; pkg/plugin/settings.go reads and checks them. */
export interface DataSourceOptions extends DataSourceJsonData {
  /** The shortest step of a series, such as 15s. */
  minStep?: string;
  /** The profile type of new queries and of drilldowns; unset: CPU time. */
  defaultProfileType?: string;
  /** The Prometheus data source that series of CPU time link to. */
  prometheusUid?: string;
  labelMapping?: LabelMapping[];
  /** The URL of a function's source, with {{function}}, {{file}}, {{line}} and {{label}} in it. */
  sourceTemplate?: string;
  /** What a core costs for an hour, in the currency. */
  corePrice?: number;
  /** A symbol; unset: $. */
  currency?: string;
  /** Of Grafana's HTTP settings: seconds, and the names of forwarded cookies. */
  timeout?: number;
  keepCookies?: string[];
  enableSecureSocksProxy?: boolean;
}

/** A profile type as the resource profileTypes lists it. */
export interface ProfileType {
  id: string;
  label: string;
}

/** A time range in Unix milliseconds. */
export interface Range {
  from: number;
  to: number;
}

/** Some values of a label. */
export interface Completions {
  values: string[];
  /** How many further values there are. */
  more: number;
}

/**
 * Where completions come from: the data source in Grafana, the HTTP API in
 * the built-in page.
 */
export interface Resources {
  profileTypes(range: Range): Promise<ProfileType[]>;
  /** The names of the labels of the series that the selector matches. */
  labelNames(range: Range, selector?: string): Promise<string[]>;
  /** All values of a label, however many. */
  labelValues(range: Range, name: string, selector?: string): Promise<string[]>;
  /** The values of a label that hold what was typed, as far as a select can show them. */
  completeValues(range: Range, name: string, typed: string, selector?: string): Promise<Completions>;
}
