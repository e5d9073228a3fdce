import {
  CustomVariableSupport,
  type DataQueryRequest,
  type DataQueryResponse,
  type DataSourceApi,
  type QueryEditorProps,
} from '@grafana/data';
import * as React from 'react';
import { from, map, type Observable } from 'rxjs';
import { LazyVariableEditor } from './components/lazy';
import { type ProfileDataSource } from './datasource';
import { type DataSourceOptions, type ProfileQuery, type VariableQuery } from './types';

type AnyDataSource = DataSourceApi<ProfileQuery, DataSourceOptions>;
type EditorProps = QueryEditorProps<AnyDataSource, ProfileQuery, DataSourceOptions, VariableQuery>;

/** Dashboard variables of profile types, label names and label values. */
export class ProfileVariableSupport extends CustomVariableSupport<
  AnyDataSource,
  VariableQuery,
  ProfileQuery,
  DataSourceOptions
> {
  readonly editor: React.ComponentType<EditorProps>;

  constructor(private readonly datasource: ProfileDataSource) {
    super();
    this.editor = ({ query, range, onChange, onRunQuery }) =>
      React.createElement(LazyVariableEditor, {
        query,
        range,
        onChange,
        onRunQuery,
        resources: datasource.resources,
      });
  }

  query(request: DataQueryRequest<VariableQuery>): Observable<DataQueryResponse> {
    const { range, scopedVars, targets } = request;
    return from(this.datasource.metricFindQuery(targets[0], { range, scopedVars })).pipe(map((data) => ({ data })));
  }

  override getDefaultQuery(): Partial<ProfileQuery> {
    const query: Partial<VariableQuery> = { kind: 'labelValues', label: 'service_name', labelSelector: '{}' };
    return query as Partial<ProfileQuery>; // Grafana's type knows no query of variables.
  }
}
