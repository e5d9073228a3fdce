import {
  CoreApp,
  createTheme,
  type DataQueryResponse,
  type DataSourceInstanceSettings,
  type DataSourcePlugin,
  type DataSourceSettings,
  dateTime,
  LoadingState,
  ThemeContext,
} from '@grafana/data';
import { checkFields, FlameGraph, getMessageCheckFieldsResult } from '@grafana/flamegraph';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import * as React from 'react';
import { lastValueFrom } from 'rxjs';
import { type ProfileDataSource } from '../../../src/datasource';
import { type DataSourceOptions, type ProfileQuery, type VariableQuery } from '../../../src/types';

export type Plugin = DataSourcePlugin<ProfileDataSource, ProfileQuery, DataSourceOptions>;

interface Props {
  plugin: Plugin;
  settings: DataSourceInstanceSettings<DataSourceOptions>;
}

const HOUR = 60 * 60 * 1000;
const theme = createTheme({ colors: { mode: 'light' } });

/** The plugin's editors and its result, each as Grafana would host it. */
export function Harness({ plugin, settings }: Props) {
  const [datasource] = React.useState(() => new plugin.DataSourceClass(settings));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <h1>React {React.version}</h1>
      <Config plugin={plugin} />
      <Variable datasource={datasource} />
      <Query plugin={plugin} datasource={datasource} />
    </ThemeContext.Provider>
  );
}

function Config({ plugin }: { plugin: Plugin }) {
  const { ConfigEditor } = plugin.components;
  const [options, setOptions] = React.useState({
    name: 'Flameline',
    type: plugin.meta?.id,
    access: 'proxy',
    url: '',
    jsonData: {},
    secureJsonFields: {},
  } as DataSourceSettings<DataSourceOptions>);
  return (
    <section aria-label="Configuration">
      {ConfigEditor && <ConfigEditor options={options} onOptionsChange={setOptions} />}
      <output aria-label="Settings">{JSON.stringify(options)}</output>
    </section>
  );
}

function Variable({ datasource }: { datasource: ProfileDataSource }) {
  const [query, setQuery] = React.useState<VariableQuery>({ refId: 'v', kind: 'labelValues' });
  const [values, setValues] = React.useState<string>('');
  // Grafana hosts the editor as a component that the support class names.
  const support = datasource.variables as unknown as { editor: React.ComponentType<object> };
  const Editor = support.editor;
  const run = async (next: VariableQuery) => {
    setQuery(next);
    setValues(JSON.stringify(await datasource.metricFindQuery(next)));
  };
  return (
    <section aria-label="Variable">
      <Editor {...{ query, datasource, onChange: run, onRunQuery: () => undefined }} />
      <output aria-label="Values">{values}</output>
    </section>
  );
}

function Query({ plugin, datasource }: { plugin: Plugin; datasource: ProfileDataSource }) {
  const { QueryEditor } = plugin.components;
  const [query, setQuery] = React.useState<ProfileQuery>(
    () => ({ refId: 'A', ...datasource.getDefaultQuery(CoreApp.Explore) }) as ProfileQuery
  );
  const [response, setResponse] = React.useState<DataQueryResponse>();
  const run = async () => setResponse(await runQuery(datasource, query));
  return (
    <section aria-label="Query">
      {QueryEditor && (
        <QueryEditor
          datasource={datasource}
          query={query}
          app={CoreApp.Explore}
          onChange={setQuery}
          onRunQuery={() => undefined}
        />
      )}
      <output aria-label="Model">{JSON.stringify(query)}</output>
      <button onClick={() => void run()}>Run the query</button>
      {response && <Result response={response} />}
    </section>
  );
}

async function runQuery(datasource: ProfileDataSource, query: ProfileQuery): Promise<DataQueryResponse> {
  const to = dateTime();
  const from = dateTime(to.valueOf() - HOUR);
  return lastValueFrom(
    datasource.query({
      requestId: '1',
      app: CoreApp.Explore,
      interval: '15s',
      intervalMs: 15000,
      maxDataPoints: 500,
      range: { from, to, raw: { from: 'now-1h', to: 'now' } },
      scopedVars: {},
      startTime: to.valueOf(),
      targets: [query],
      timezone: 'browser',
    })
  );
}

/** The first frame as a flame graph, and what the frames are. */
function Result({ response }: { response: DataQueryResponse }) {
  const [frame, ...series] = response.data;
  const wrong = frame && checkFields(frame);
  const summary = {
    state: response.state ?? LoadingState.Done,
    error: response.errors?.[0]?.message,
    flameGraph: frame?.meta?.preferredVisualisationType,
    wrong: wrong && getMessageCheckFieldsResult(wrong),
    nodes: frame?.length,
    series: series.map((s) => s.fields[1]?.config.unit),
  };
  return (
    <>
      <output aria-label="Result">{JSON.stringify(summary)}</output>
      {frame && !wrong && <FlameGraph data={frame} getTheme={() => theme} showAnalyzeWithAssistant={false} />}
    </>
  );
}
