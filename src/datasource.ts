import {
  type AbstractQuery,
  type AdHocVariableFilter,
  CoreApp,
  type DataQuery,
  type DataQueryRequest,
  type DataQueryResponse,
  type DataSourceApi,
  type DataSourceGetTagKeysOptions,
  type DataSourceGetTagValuesOptions,
  type DataSourceInstanceSettings,
  dateTime,
  hasQueryExportSupport,
  type LegacyMetricFindQueryOptions,
  type MetricFindValue,
  type QueryFixAction,
  type ScopedVars,
  type TimeRange,
} from '@grafana/data';
import { DataSourceWithBackend, getTemplateSrv, type TemplateSrv } from '@grafana/runtime';
import { type Observable } from 'rxjs';
import { fromAbstractQuery, toAbstractQuery } from './abstractQuery';
import { annotationSupport } from './annotations';
import { interpolateQuery, interpolateSelector, withFilters } from './interpolate';
import { migrateQuery, migrateVariableQuery } from './migrate';
import { profileTypeName } from './profileType';
import { createResources } from './resources';
import { formatSelector, parseSelector } from './selector';
import {
  type DataSourceOptions,
  DEFAULT_PROFILE_TYPE,
  type ProfileQuery,
  QUERY_VERSION,
  type Range,
  type Resources,
  type VariableQuery,
} from './types';
import { ProfileVariableSupport } from './variables';

/** The type of Grafana's own data source for Pyroscope. */
const PYROSCOPE = 'grafana-pyroscope-datasource';

/** The Grafana data source: queries and resources go to the plugin backend. */
export class ProfileDataSource extends DataSourceWithBackend<ProfileQuery, DataSourceOptions> {
  readonly resources: Resources;
  private readonly options: DataSourceOptions;

  constructor(
    settings: DataSourceInstanceSettings<DataSourceOptions>,
    private readonly templates: TemplateSrv = getTemplateSrv()
  ) {
    super(settings);
    this.options = settings.jsonData ?? {};
    this.resources = createResources((path, params) => this.getResource(path, params));
    this.variables = new ProfileVariableSupport(this);
    this.annotations = annotationSupport;
  }

  override getDefaultQuery(app: CoreApp): Partial<ProfileQuery> {
    return {
      version: QUERY_VERSION,
      queryType: app === CoreApp.Explore ? 'both' : app === CoreApp.UnifiedAlerting ? 'metrics' : 'profile',
      profileTypeId: this.options.defaultProfileType || DEFAULT_PROFILE_TYPE,
      labelSelector: '{}',
      groupBy: [],
    };
  }

  /** Leaves out queries whose profile type is a variable without a value: nothing of that kind is stored. */
  override query(request: DataQueryRequest<ProfileQuery>): Observable<DataQueryResponse> {
    const hasType = (query: ProfileQuery) =>
      this.templates.replace(migrateQuery(query).profileTypeId, request.scopedVars) !== '';
    return super.query({ ...request, targets: request.targets.filter(hasType) });
  }

  override filterQuery(query: ProfileQuery): boolean {
    return !query.hide && migrateQuery(query).profileTypeId !== '';
  }

  override getQueryDisplayText(query: ProfileQuery): string {
    const { profileTypeId, labelSelector } = migrateQuery(query);
    return `${profileTypeName(profileTypeId)} ${labelSelector}`;
  }

  override applyTemplateVariables(
    query: ProfileQuery,
    scopedVars: ScopedVars,
    filters?: AdHocVariableFilter[]
  ): ProfileQuery {
    return interpolateQuery(migrateQuery(query), this.templates, scopedVars, filters);
  }

  override interpolateVariablesInQueries(
    queries: ProfileQuery[],
    scopedVars: ScopedVars,
    filters?: AdHocVariableFilter[]
  ): ProfileQuery[] {
    return queries.map((query) => ({
      ...this.applyTemplateVariables(query, scopedVars, filters),
      datasource: this.getRef(),
    }));
  }

  /** What the flame graph's and Explore's "filter for" and "filter out" do. */
  override modifyQuery(query: ProfileQuery, action: QueryFixAction): ProfileQuery {
    const { key, value } = action.options ?? {};
    const op = action.type === 'ADD_FILTER' ? '=' : action.type === 'ADD_FILTER_OUT' ? '!=' : undefined;
    if (!op || !key || value === undefined) {
      return query;
    }
    const modify = (selector: string) => {
      const matchers = parseSelector(selector).filter((m) => m.name !== key || m.value !== value);
      return formatSelector([...matchers, { name: key, op, value }]);
    };
    const { labelSelector, baseline } = query;
    return {
      ...query,
      labelSelector: modify(labelSelector),
      // Both sides of a comparison get it, as they get ad hoc filters.
      ...(baseline?.labelSelector && { baseline: { ...baseline, labelSelector: modify(baseline.labelSelector) } }),
    };
  }

  /**
   * The queries of another data source. Those of Grafana's Pyroscope data source are taken over whole, of others the
   * labels, and of PromQL the grouping. There is no importFromAbstractQueries: Grafana would prefer it, and it knows labels only.
   */
  override async importQueries(queries: DataQuery[], origin: DataSourceApi): Promise<ProfileQuery[]> {
    if (origin.type === PYROSCOPE) {
      return queries.map((query) => migrateQuery(query as ProfileQuery));
    }
    return hasQueryExportSupport(origin)
      ? this.importAbstract(await origin.exportToAbstractQueries(queries), queries)
      : [];
  }

  private async importAbstract(
    queries: AbstractQuery[],
    originals: Array<DataQuery & { expr?: unknown }>
  ): Promise<ProfileQuery[]> {
    const now = Date.now();
    const known = await this.resources.labelNames({ from: now - 60 * 60 * 1000, to: now }).catch(() => undefined);
    // A server without profiles knows no names; the common ones are better.
    return queries.map((query) => {
      const expression = originals.find(({ refId }) => refId === query.refId)?.expr;
      const promQL = typeof expression === 'string' ? expression : '';
      return fromAbstractQuery(query, known?.length ? known : undefined, this.options, promQL);
    });
  }

  async exportToAbstractQueries(queries: ProfileQuery[]): Promise<AbstractQuery[]> {
    return queries.map((query) => toAbstractQuery(migrateQuery(query), this.options.labelMapping));
  }

  override async getTagKeys(options?: DataSourceGetTagKeysOptions<ProfileQuery>): Promise<MetricFindValue[]> {
    const selector = withFilters('{}', options?.filters ?? []);
    const names = await this.resources.labelNames(asRange(options?.timeRange), selector);
    return names.map((text) => ({ text, value: text }));
  }

  override async getTagValues(options: DataSourceGetTagValuesOptions<ProfileQuery>): Promise<MetricFindValue[]> {
    const others = options.filters.filter((f) => f.key !== options.key);
    const values = await this.resources.labelValues(asRange(options.timeRange), options.key, withFilters('{}', others));
    return values.map((text) => ({ text, value: text }));
  }

  override async metricFindQuery(
    stored: Partial<VariableQuery> | undefined,
    options?: LegacyMetricFindQueryOptions & { range?: TimeRange; scopedVars?: ScopedVars }
  ): Promise<MetricFindValue[]> {
    const query = migrateVariableQuery(stored);
    const range = asRange(options?.range);
    const scopedVars = options?.scopedVars ?? {};
    const selector = interpolateSelector(query.labelSelector ?? '{}', this.templates, scopedVars);
    switch (query.kind) {
      case 'profileTypes': {
        const types = await this.resources.profileTypes(range);
        return types.map(({ id }) => ({ text: profileTypeName(id), value: id }));
      }
      case 'labelNames':
        return asOptions(versionsFirst(await this.resources.labelNames(range, selector)));
      case 'labelValues': {
        const label = this.templates.replace(query.label, scopedVars);
        return label ? asOptions(await this.resources.labelValues(range, label, selector)) : [];
      }
    }
  }
}

/** Labels that usually tell deploys apart come first: a variable's default is its first value. */
function versionsFirst(names: string[]): string[] {
  const isVersion = (name: string) => /version|image|revision|build|commit|release/.test(name);
  return [...names.filter(isVersion), ...names.filter((name) => !isVersion(name))];
}

function asOptions(texts: string[]): MetricFindValue[] {
  return texts.map((text) => ({ text, value: text }));
}

/** The range of completions: the dashboard's, or the last hour. */
function asRange(range?: TimeRange): Range {
  const to = range?.to ?? dateTime();
  const from = range?.from ?? dateTime(to.valueOf() - 60 * 60 * 1000);
  return { from: from.valueOf(), to: to.valueOf() };
}
