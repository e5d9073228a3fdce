import { type AbstractLabelMatcher, AbstractLabelOperator, type AbstractQuery } from '@grafana/data';
import { parser } from '@prometheus-io/lezer-promql';
import { formatSelector, type Matcher, type Operator, SERVICE_LABEL, tryParseSelector } from './selector';
import { DEFAULT_PROFILE_TYPE, type LabelMapping, type ProfileQuery, QUERY_VERSION } from './types';

const OPERATOR: Record<AbstractLabelOperator, Operator> = {
  [AbstractLabelOperator.Equal]: '=',
  [AbstractLabelOperator.NotEqual]: '!=',
  [AbstractLabelOperator.EqualRegEx]: '=~',
  [AbstractLabelOperator.NotEqualRegEx]: '!~',
};

const ABSTRACT: Record<Operator, AbstractLabelOperator> = {
  '=': AbstractLabelOperator.Equal,
  '!=': AbstractLabelOperator.NotEqual,
  '=~': AbstractLabelOperator.EqualRegEx,
  '!~': AbstractLabelOperator.NotEqualRegEx,
};

/** Names under which other sources know a label of ours. */
const ALIASES: Record<string, string[]> = {
  service_name: ['service', 'app', 'application', 'app_kubernetes_io_name', 'exported_job', 'job'],
  namespace: ['kubernetes_namespace', 'k8s_namespace_name', 'exported_namespace'],
  pod: ['pod_name', 'kubernetes_pod_name', 'k8s_pod_name', 'exported_pod'],
  container: ['container_name', 'k8s_container_name', 'exported_container'],
  node: ['nodename', 'kubernetes_node', 'k8s_node_name', 'host', 'hostname'],
  cluster: ['k8s_cluster_name', 'cluster_name'],
};

/** Labels that series of profiles have where their source knows them. */
const COMMON = [SERVICE_LABEL, 'namespace', 'pod', 'container', 'node', 'cluster', 'instance', 'job', 'comm', 'exe'];

/**
 * The matchers of another source's query, such as Prometheus', that mean
 * something for profiles: a label that the server knows, under its own name
 * or under ours. The rest, such as __name__ or le, is left out: a matcher on
 * a label that no profile has would match nothing.
 *
 * @param known the server's label names; undefined where it can't be asked
 * @param mapping names of the data source's settings, which go first
 */
export function importMatchers(
  matchers: AbstractLabelMatcher[],
  known?: string[],
  mapping: LabelMapping[] = []
): Matcher[] {
  const names = new Set(known ?? COMMON);
  const imported: Matcher[] = [];
  const add = (name: string, m: AbstractLabelMatcher) =>
    imported.push({ name, op: OPERATOR[m.operator], value: m.value });

  const rest = matchers.filter((m) => {
    if (m.name.startsWith('__')) {
      return false;
    }
    const mapped = mapping.filter(({ metrics, profiles }) => metrics === m.name && (!known || names.has(profiles)));
    if (mapped.length > 0) {
      mapped.forEach(({ profiles }) => add(profiles, m));
      return false;
    }
    if (names.has(m.name)) {
      add(m.name, m);
      return false;
    }
    return true;
  });
  for (const [name, aliases] of Object.entries(ALIASES)) {
    const match = aliases.map((alias) => rest.find((m) => m.name === alias)).find((m) => m !== undefined);
    if (match && names.has(name) && !imported.some((m) => m.name === name)) {
      add(name, match);
    }
  }
  return imported;
}

/**
 * The labels by which a PromQL expression groups its outermost aggregation that has some, as
 * labels that profiles have, such as service_name of sum by (service_name) (…).
 */
function importGrouping(expression: string, known?: string[], mapping: LabelMapping[] = []): string[] {
  let grouping: string[] | undefined;
  parser.parse(expression).iterate({
    enter: ({ name, node }) => {
      if (!grouping && name === 'AggregateModifier' && node.getChild('By')) {
        const labels = node.getChild('GroupingLabels')?.getChildren('LabelName') ?? [];
        grouping = labels.map(({ from, to }) => expression.slice(from, to));
      }
      return !grouping;
    },
  });
  const names = new Set(known ?? COMMON);
  const imported = (grouping ?? []).flatMap((label) => {
    const mapped = mapping.filter(({ metrics }) => metrics === label).map(({ profiles }) => profiles);
    const alias = Object.keys(ALIASES).filter((name) => ALIASES[name]?.includes(label));
    return [mapped, [label], alias].find((candidates) => candidates.some((name) => names.has(name))) ?? [];
  });
  return [...new Set(imported)].filter((name) => names.has(name));
}

/** What the settings of a data source say about switching. */
interface Settings {
  labelMapping?: LabelMapping[];
  defaultProfileType?: string;
}

/**
 * The query that Explore shows when it switches from another source.
 *
 * @param expression of PromQL, whose grouping is taken over
 */
export function fromAbstractQuery(
  query: AbstractQuery,
  known?: string[],
  settings: Settings = {},
  expression = ''
): ProfileQuery {
  return {
    refId: query.refId,
    version: QUERY_VERSION,
    queryType: 'both',
    profileTypeId: settings.defaultProfileType || DEFAULT_PROFILE_TYPE,
    labelSelector: formatSelector(importMatchers(query.labelMatchers, known, settings.labelMapping)),
    groupBy: importGrouping(expression, known, settings.labelMapping),
  };
}

/** What another source is told when Explore switches to it: labels by their names there. */
export function toAbstractQuery(query: ProfileQuery, mapping: LabelMapping[] = []): AbstractQuery {
  const matchers = tryParseSelector(query.labelSelector) ?? [];
  return {
    refId: query.refId,
    labelMatchers: matchers.map(({ name, op, value }) => ({
      name: mapping.find(({ metrics, profiles }) => profiles === name && metrics)?.metrics ?? name,
      value,
      operator: ABSTRACT[op],
    })),
  };
}
