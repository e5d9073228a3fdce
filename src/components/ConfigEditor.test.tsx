import { type DataSourceSettings } from '@grafana/data';
import { type BackendSrv, config, type DataSourceSrv, setBackendSrv, setDataSourceSrv } from '@grafana/runtime';
import * as React from 'react';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { selectors } from '../selectors';
import { all, click, find, input, press, typeInto } from '../test/dom';
import { DEFAULT_PROFILE_TYPE, type DataSourceOptions } from '../types';
import { ConfigEditor } from './ConfigEditor';

const ids = selectors.configEditor;
const PROMETHEUS = { uid: 'prom', name: 'Metrics', type: 'prometheus', meta: { id: 'prometheus', info: { logos: {} } } };

let root: Root;
let container: HTMLElement;
/** The settings as the editor last changed them. */
let settings: DataSourceSettings<DataSourceOptions>;
/** The resources that were asked for. */
let asked: string[];

function Editor({ initial }: { initial: typeof settings }) {
  const [shown, setShown] = React.useState(initial);
  return (
    <ConfigEditor
      options={shown}
      onOptionsChange={(changed) => {
        settings = changed;
        setShown(changed);
      }}
    />
  );
}

async function show(jsonData: DataSourceOptions = {}, more: Partial<typeof settings> = {}) {
  settings = {
    uid: 'flame',
    url: 'http://localhost:4040',
    jsonData,
    secureJsonFields: {},
    ...more,
  } as typeof settings;
  await act(async () => root.render(<Editor initial={settings} />));
}

const alerts = () => [...container.querySelectorAll('[role="alert"]')].map((a) => a.textContent?.trim());
const shown = (css: string) => container.querySelector<HTMLInputElement>(css);
function get(css: string): HTMLInputElement {
  const element = shown(css);
  if (!element) {
    throw new Error(`${css} is not shown`);
  }
  return element;
}
const TIMEOUT = '[aria-label="Timeout in seconds"]';
const open = (section: string) => click(get(`[aria-label="Expand section ${section}"]`));

vi.setConfig({ testTimeout: 60_000 });

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  asked = [];
  setBackendSrv({
    get: async (path: string) => {
      asked.push(path);
      return [{ id: DEFAULT_PROFILE_TYPE, label: 'CPU' }];
    },
  } as unknown as BackendSrv);
  setDataSourceSrv({
    getList: () => [PROMETHEUS],
    getInstanceSettings: (uid: string) => (uid === 'prom' ? PROMETHEUS : undefined),
  } as unknown as DataSourceSrv);
  container = document.body.appendChild(document.createElement('div'));
  root = createRoot(container);
});

afterEach(async () => {
  await act(async () => root.unmount());
  container.remove();
  config.secureSocksDSProxyEnabled = false;
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: false });
});

describe('the connection', () => {
  it('has an address, and says where it is wrong', async () => {
    await show({}, { url: '' });
    const url = get('[aria-label="Data source connection URL"]');
    await typeInto(url, 'localhost');
    expect(alerts()).toEqual(['Please enter a valid URL']);
    await typeInto(url, 'https://profiles:4040');
    expect(settings.url).toBe('https://profiles:4040');
    expect(alerts()).toEqual([]);
  });

  it('keeps a password out of what can be read again', async () => {
    await show({}, { basicAuth: true });
    await typeInto(get('input[type="password"]'), 'secret');
    expect(settings.secureJsonData).toEqual({ basicAuthPassword: 'secret' });
    expect(JSON.stringify(settings.jsonData)).not.toContain('secret');
  });

  it('has a timeout, folded away until it is set', async () => {
    await show();
    expect(shown(TIMEOUT)).toBeNull();
    await open('Advanced settings');
    await typeInto(get(TIMEOUT), '60');
    expect(settings.jsonData.timeout).toBe(60);
  });

  it('goes through the secure SOCKS proxy where Grafana has one', async () => {
    await show({ timeout: 1 });
    expect(shown('#secureSocksProxyEnabled')).toBeNull();
    await act(async () => root.render(null));
    config.secureSocksDSProxyEnabled = true;
    await show({ timeout: 1 });
    await click(get('#secureSocksProxyEnabled'));
    expect(settings.jsonData.enableSecureSocksProxy).toBe(true);
  });
});

describe('queries', () => {
  it('have a minimum step', async () => {
    await show();
    await typeInto(input(ids.minStep), '5 seconds');
    expect(alerts()).toEqual(['A step is a duration such as 15s or 1m']);
    await typeInto(input(ids.minStep), '5s');
    expect(settings.jsonData).toEqual({ minStep: '5s' });
    expect(alerts()).toEqual([]);
  });

  it('have a default profile type, which the saved data source lists', async () => {
    await show();
    await click(input(ids.defaultProfileType));
    await typeInto(input(ids.defaultProfileType), 'CPU');
    await vi.waitFor(() => expect(asked).toContain('/api/datasources/uid/flame/resources/profileTypes'));
    await press(input(ids.defaultProfileType), 'ArrowDown');
    await press(input(ids.defaultProfileType), 'Enter');
    expect(settings.jsonData.defaultProfileType).toBeTruthy();
  });
});

describe('links and costs', () => {
  it('are folded away until one is set', async () => {
    await show();
    expect(all(ids.sourceTemplate)).toHaveLength(0);
    await open('Links and costs');
    expect(all(ids.sourceTemplate)).toHaveLength(1);
    await act(async () => root.render(null));
    await show({ corePrice: 0.04, currency: '€', prometheusUid: 'prom' });
    expect(input(ids.corePrice).value).toBe('0.04');
    expect(input(ids.currency).value).toBe('€');
    expect(find(ids.prometheus).textContent).toContain('Metrics');
  });

  it.each([
    ['https://git.example.com/{{version}}?q={{function}}', []],
    ['git.example.com', ['A source is a URL such as https://git.example.com/search?q={{function}}']],
    ['https://git/{{version}}/{{file}}#L{{line}}', []],
    ['https://git/${x}', ['A source is a URL such as https://git.example.com/search?q={{function}}']],
  ])('have a source %s', async (template, problems) => {
    await show({ corePrice: 1 });
    await typeInto(input(ids.sourceTemplate), template);
    expect(settings.jsonData.sourceTemplate).toBe(template);
    expect(alerts()).toEqual(problems);
  });

  it('have a price, which is a number', async () => {
    await show({ currency: '€', corePrice: 1 });
    await typeInto(input(ids.corePrice), '-1');
    expect(alerts()).toEqual(['A price is a number of at least 0']);
    await typeInto(input(ids.corePrice), '0.035');
    expect(settings.jsonData.corePrice).toBe(0.035);
    await typeInto(input(ids.corePrice), '');
    expect(settings.jsonData.corePrice).toBeUndefined();
  });

  it('map labels', async () => {
    await show({ corePrice: 1 });
    await click(find(ids.addMapping));
    await typeInto(input(ids.mappingMetrics), 'app');
    await typeInto(input(ids.mappingProfiles), 'service_name');
    expect(settings.jsonData.labelMapping).toEqual([{ metrics: 'app', profiles: 'service_name' }]);
    await click(get('[aria-label="Remove mapping 1"]'));
    expect(settings.jsonData.labelMapping).toBeUndefined();
  });
});

it('can only be read where it was provisioned', async () => {
  await show({ corePrice: 1 }, { readOnly: true });
  for (const id of [ids.minStep, ids.sourceTemplate, ids.corePrice, ids.currency]) {
    expect(input(id).disabled).toBe(true);
  }
});
