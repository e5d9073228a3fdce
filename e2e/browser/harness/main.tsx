import * as emotion from '@emotion/css';
import * as data from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import * as runtime from '@grafana/runtime';
import * as ui from '@grafana/ui';
import * as React from 'react';
import * as ReactDOM from 'react-dom';
import { createRoot } from 'react-dom/client';
import * as rxjs from 'rxjs';
import { backendSrv, dataSourceSrv, settings, templateSrv } from './grafana';
import { Harness, type Plugin } from './Harness';

declare const System: {
  addImportMap: (map: { imports: Record<string, string> }) => void;
  set: (id: string, module: object) => void;
  import: (url: string) => Promise<{ plugin: Plugin }>;
};

/** The modules that Grafana shares and the plugin asks for. */
const SHARED: Record<string, object> = {
  '@emotion/css': emotion,
  '@grafana/data': data,
  '@grafana/runtime': runtime,
  '@grafana/ui': ui,
  react: React,
  'react-dom': ReactDOM,
  rxjs,
};

/** Loads the built plugin as Grafana does: by SystemJS, with shared modules. */
async function start() {
  await initPluginTranslations('grafana-ui', []);
  runtime.setBackendSrv(backendSrv);
  runtime.setDataSourceSrv(dataSourceSrv);
  runtime.setTemplateSrv(templateSrv);

  const imports: Record<string, string> = {};
  for (const [name, module] of Object.entries(SHARED)) {
    imports[name] = `package:${name}`;
    System.set(`package:${name}`, module);
  }
  System.addImportMap({ imports });
  const { plugin } = await System.import(`/public/plugins/${settings.type}/module.js`);

  const root = document.getElementById('root');
  if (root) {
    createRoot(root).render(<Harness plugin={plugin} settings={settings} />);
  }
}

void start();
