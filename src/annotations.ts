import { type AnnotationQuery, type AnnotationSupport } from '@grafana/data';
import { migrateQuery } from './migrate';
import { type ProfileQuery, QUERY_VERSION } from './types';

/** What a new annotation query asks for: processes that were killed for lack of memory. */
const KILLS: Partial<ProfileQuery> = {
  version: QUERY_VERSION,
  queryType: 'annotations',
  profileTypeId: 'oom:kills:count::',
  labelSelector: '{}',
  groupBy: [],
};

/** Marks on charts: when profiles of a type had values. */
export const annotationSupport: AnnotationSupport<ProfileQuery> = {
  getDefaultQuery: () => KILLS,

  prepareQuery({ target }: AnnotationQuery<ProfileQuery>) {
    const query = migrateQuery({ refId: 'Anno', ...KILLS, ...target });
    return { ...query, queryType: 'annotations' };
  },
};
