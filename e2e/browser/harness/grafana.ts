import { type DataSourceInstanceSettings } from '@grafana/data';
import {
  type BackendSrv,
  type BackendSrvRequest,
  type DataSourceSrv,
  type FetchResponse,
  type TemplateSrv,
} from '@grafana/runtime';
import { from, type Observable } from 'rxjs';
import { type DataSourceOptions } from '../../../src/types';

/** The data source as Grafana's server would describe it. */
export const settings: DataSourceInstanceSettings<DataSourceOptions> = {
  id: 1,
  uid: 'flameline',
  type: 'flameline-profiles-datasource',
  name: 'Flameline',
  access: 'proxy',
  readOnly: false,
  jsonData: {},
  meta: { id: 'flameline-profiles-datasource' } as DataSourceInstanceSettings['meta'],
};

/** Sends what the plugin asks Grafana's server for over the network. */
async function send<T>(options: BackendSrvRequest): Promise<FetchResponse<T>> {
  const params = new URLSearchParams(
    Object.entries(options.params ?? {}).map(([key, value]) => [key, String(value)])
  ).toString();
  const url = `${options.url.startsWith('/') ? '' : '/'}${options.url}${params ? `?${params}` : ''}`;
  const response = await fetch(url, {
    method: options.method ?? 'GET',
    headers: { 'Content-Type': 'application/json' },
    body: options.data === undefined ? undefined : JSON.stringify(options.data),
  });
  const data = (await response.json()) as T;
  const answer = { ...response, status: response.status, ok: response.ok, data, config: options } as FetchResponse<T>;
  if (!response.ok) {
    throw answer;
  }
  return answer;
}

export const backendSrv = {
  fetch: <T>(options: BackendSrvRequest): Observable<FetchResponse<T>> => from(send<T>(options)),
  get: async <T>(url: string, params?: BackendSrvRequest['params']) => (await send<T>({ url, params })).data,
} as BackendSrv;

export const dataSourceSrv = {
  getInstanceSettings: () => settings,
  getList: () => [settings],
} as unknown as DataSourceSrv;

export const templateSrv: TemplateSrv = {
  getVariables: () => [],
  replace: (target = '') => target,
  containsTemplate: () => false,
  updateTimeRange: () => undefined,
};
