import {
  DEFAULT_PROFILE_TYPE,
  QUERY_VERSION,
  type ProfileQuery,
  type QueryType,
  type VariableKind,
  type VariableQuery,
} from './types';

const QUERY_TYPES: QueryType[] = ['profile', 'metrics', 'both', 'comparison', 'functions', 'functionSeries', 'explain', 'heatmap', 'annotations'];

type Stored = Partial<ProfileQuery> & Pick<ProfileQuery, 'refId'>;

/**
 * A query of the current version from whatever a dashboard has stored: an
 * older version, a query of the Pyroscope data source (which has no version),
 * or an empty one. A current query comes back as it is, and no field is left
 * out: the backend names those that have no effect (pkg/query/foreign.go).
 */
export function migrateQuery(stored: Stored): ProfileQuery {
  if (isCurrent(stored)) {
    return stored;
  }
  return {
    ...stored,
    version: QUERY_VERSION,
    queryType: QUERY_TYPES.find((type) => type === stored.queryType) ?? 'both',
    profileTypeId: stored.profileTypeId ?? DEFAULT_PROFILE_TYPE,
    labelSelector: stored.labelSelector?.trim() || '{}',
    groupBy: stored.groupBy ?? [],
  };
}

function isCurrent(stored: Stored): stored is ProfileQuery {
  return (
    stored.version === QUERY_VERSION && stored.profileTypeId !== undefined && stored.labelSelector !== undefined
  );
}

/** The Pyroscope data source's names for what a variable asks for. */
const PYROSCOPE_KINDS: Record<string, VariableKind> = {
  profileType: 'profileTypes',
  label: 'labelNames',
  labelValue: 'labelValues',
};

type StoredVariable = Partial<VariableQuery> & { type?: string; labelName?: string };

/** A variable's query from what a dashboard has stored. */
export function migrateVariableQuery(stored: StoredVariable | string | undefined): VariableQuery {
  const { type, labelName, ...query } = typeof stored === 'object' ? stored : {};
  const kind = query.kind ?? PYROSCOPE_KINDS[type ?? ''] ?? 'labelValues';
  const label = query.label ?? labelName;
  return { ...query, refId: query.refId ?? 'variable', kind, ...(label !== undefined && { label }) };
}
