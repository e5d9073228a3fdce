import * as emotion from '@emotion/css';
import * as data from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import * as runtime from '@grafana/runtime';
import * as ui from '@grafana/ui';
import i18next from 'i18next';
import * as React from 'react';
import * as ReactDOM from 'react-dom';
import { createRoot } from 'react-dom/client';
import * as rxjs from 'rxjs';
import { backendSrv, dataSourceSrv, settings, templateSrv } from './grafana';
import { Harness, type Plugin } from './Harness';

declare const System: {
  addImportMap: (map: { imports: Record<string, string> }) => void;
  set: (id: string, module: object) => void;
  import: (url: string) => Promise<{ default: Promise<{ plugin: Plugin }> }>;
};

/** The modules that Grafana shares and the plugin asks for. */
const SHARED: Record<string, object> = {
  '@emotion/css': emotion,
  '@grafana/data': data,
  '@grafana/runtime': runtime,
  '@grafana/ui': ui,
  i18next,
  react: React,
  'react-dom': ReactDOM,
  rxjs,
};

/** Makes the language of the URL that of Grafana, which has texts in it. */
async function setLanguage() {
  await initPluginTranslations('grafana-ui', []);
  const language = new URLSearchParams(window.location.search).get('language');
  if (language) {
    i18next.addResourceBundle(language, 'grafana', { title: 'Grafana' });
    await i18next.changeLanguage(language);
  }
}

/** Loads the built plugin as Grafana does: by SystemJS, with shared modules. */
async function start() {
  await setLanguage();
  runtime.setBackendSrv(backendSrv);
  runtime.setDataSourceSrv(dataSourceSrv);
  runtime.setTemplateSrv(templateSrv);

  const imports: Record<string, string> = {};
  for (const [name, module] of Object.entries(SHARED)) {
    imports[name] = `package:${name}`;
    System.set(`package:${name}`, module);
  }
  System.addImportMap({ imports });
  const module = await System.import(`/public/plugins/${settings.type}/module.js`);
  const { plugin } = await module.default;

  const root = document.getElementById('root');
  if (root) {
    createRoot(root).render(<Harness plugin={plugin} settings={settings} />);
  }
}

void start();
