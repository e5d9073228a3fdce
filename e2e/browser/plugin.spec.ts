import { expect, type Page, test } from '@playwright/test';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { selectors } from '../../src/selectors';
import { BURNER_FUNCTION, BURNER_SERVICE, type Flameline, startFlameline } from './flameline';
import { type GrafanaServer, startGrafanaServer } from './grafanaServer';
import { ROOT } from './prepare';
import { watch } from './watch';

const { queryEditor, configEditor, variableEditor } = selectors;

/** What Grafana 12.0.0 already shares with plugins; later versions share more. */
const SHARED_SINCE_12_0 = [
  '@emotion/css',
  '@grafana/data',
  '@grafana/runtime',
  '@grafana/ui',
  'i18next',
  'react',
  'rxjs',
];

let flameline: Flameline;

test.beforeAll(async () => {
  flameline = await startFlameline();
});

test.afterAll(async () => {
  await flameline?.stop();
});

test('asks Grafana only for modules that version 12.0.0 shares', () => {
  const module = readFileSync(path.join(ROOT, 'dist/module.js'), 'utf8');
  const asked = JSON.parse(/define\((\[[^\]]*\])/.exec(module)?.[1] ?? 'null') as unknown;
  expect(asked).toEqual(expect.any(Array));
  expect(SHARED_SINCE_12_0).toEqual(expect.arrayContaining(asked as string[]));
});

test('is packaged with what its plugin.json names', () => {
  const read = (name: string) => readFileSync(path.join(ROOT, 'dist', name), 'utf8');
  const { info, id, includes, languages } = JSON.parse(read('plugin.json')) as {
    id: string;
    languages: string[];
    includes: Array<{ type: string; name: string; path: string }>;
    info: { version: string; updated: string; logos: Record<string, string> };
  };
  expect(id).toBe('flameline-profiles-datasource');
  expect(info.version).toMatch(/^\d+\.\d+\.\d+/);
  expect(info.updated).toMatch(/^\d{4}-\d{2}-\d{2}$/);
  for (const logo of Object.values(info.logos)) {
    expect(read(logo)).toContain('<svg');
  }
  for (const include of includes) {
    expect(JSON.parse(read(include.path))).toMatchObject({ title: include.name });
  }
  for (const language of languages) {
    expect(JSON.parse(read(`locales/${language}/${id}.json`))).toHaveProperty('query-editor');
  }
  expect(read('LICENSE')).toContain('Apache License');
});

for (const [harness, react] of [
  ['harness12', 'React 18'],
  ['harness13', 'React 19'],
] as const) {
  test.describe(react, () => {
    let grafana: GrafanaServer;
    let problems: string[];

    test.beforeAll(async () => {
      grafana = await startGrafanaServer(harness, flameline.url);
    });

    test.afterAll(async () => {
      await grafana?.stop();
    });

    test.beforeEach(async ({ page }) => {
      problems = watch(page);
      await page.goto(grafana.url);
      await expect(page.getByRole('heading', { name: react })).toBeVisible();
    });

    test('its configuration can be edited', async ({ page }) => {
      const config = page.getByRole('region', { name: 'Configuration' });
      await expect(config.getByTestId(configEditor.root)).toBeVisible();
      await config.getByPlaceholder('http://localhost:4040').fill('http://profiles:4040');
      await config.getByTestId(configEditor.minStep).fill('5 seconds');
      await expect(config.getByRole('alert')).toContainText('A step is a duration');
      await config.getByTestId(configEditor.minStep).fill('5s');
      await expect(config.getByRole('alert')).toHaveCount(0);
      expect(await output(page, 'Settings')).toMatchObject({
        url: 'http://profiles:4040',
        jsonData: { minStep: '5s' },
      });
      expect(problems).toEqual([]);
    });

    test("its editors are in Grafana's language", async ({ page }) => {
      await page.goto(`${grafana.url}/?language=de-DE`);
      const query = page.getByRole('region', { name: 'Query' });
      await expect(query.getByText('Profiltyp', { exact: true })).toBeVisible();
      await expect(query.getByTestId(queryEditor.service)).toHaveAttribute('placeholder', 'Alle Services');
      const variable = page.getByRole('region', { name: 'Variable' });
      await expect(variable.getByTestId(variableEditor.kind)).toHaveValue('Label-Werte');
      expect(problems).toEqual([]);
    });

    test('its query can be edited and run', async ({ page }) => {
      const query = page.getByRole('region', { name: 'Query' });
      await choose(page, queryEditor.service, BURNER_SERVICE);
      await choose(page, queryEditor.profileType, 'CPU time');
      await query.getByTestId(queryEditor.addFilter).click();
      await choose(page, queryEditor.filterName, 'comm');
      await query.getByTestId(queryEditor.filterOperator).click();
      await page.getByRole('option', { name: '!=', exact: true }).click();
      await query.getByTestId(queryEditor.filterValue).fill('nobody');
      await page.getByRole('option', { name: 'nobody' }).click();
      await query.getByTestId(queryEditor.groupBy).click();
      await page.getByRole('option', { name: 'service_name' }).click();
      await page.keyboard.press('Escape');
      await query.getByTestId(queryEditor.maxNodes).fill('1000');
      await query.getByTestId(queryEditor.maxNodes).press('Enter');
      await query.getByTestId(queryEditor.unit).getByRole('radio', { name: 'Cores' }).click();

      expect(await output(page, 'Model')).toMatchObject({
        version: 1,
        queryType: 'both',
        profileTypeId: 'process_cpu:cpu:nanoseconds:cpu:nanoseconds',
        labelSelector: `{service_name="${BURNER_SERVICE}", comm!="nobody"}`,
        groupBy: ['service_name'],
        maxNodes: 1000,
        unit: 'cores',
      });

      await query.getByRole('button', { name: 'Run the query' }).click();
      await expect(query.getByRole('status', { name: 'Result' })).toBeVisible();
      const result = await output(page, 'Result');
      // Grafana's own flame graph finds nothing wrong with the frame.
      expect(result).toMatchObject({ state: 'Done', flameGraph: 'flamegraph', series: ['cores'] });
      expect(result).not.toHaveProperty('wrong');
      expect(result).not.toHaveProperty('error');
      await expect(query.locator('canvas')).toBeVisible();
      await expect(query.getByText(new RegExp(BURNER_FUNCTION)).first()).toBeVisible();
      expect(problems).toEqual([]);
    });

    test('its query can be code, which is completed and says where it is wrong', async ({ page }) => {
      const query = page.getByRole('region', { name: 'Query' });
      await query.getByTestId(queryEditor.editorMode).getByRole('radio', { name: 'Code' }).click();
      const code = query.getByTestId(queryEditor.code);
      await expect(code).toHaveValue('process_cpu:cpu{}');
      await code.fill('process_cpu:cpu{service_n');
      await query.getByRole('option', { name: 'service_name' }).waitFor();
      await code.press('Tab');
      await expect(code).toHaveValue('process_cpu:cpu{service_name');
      await code.fill('process_cpu:cpu{service_name="a"');
      await code.press('Escape');
      await code.press('Enter');
      await expect(query.getByRole('alert')).toContainText('expected "," or "}" at position 33');
      await code.fill('process_cpu:cpu{service_name=~"a|b"}');
      await code.press('Escape');
      await code.press('Enter');
      await expect(query.getByRole('alert')).toHaveCount(0);
      await query.getByTestId(queryEditor.editorMode).getByRole('radio', { name: 'Builder' }).click();
      await expect(query.getByTestId(queryEditor.service)).toHaveValue('=~ a|b');
      expect(problems).toEqual([]);
    });

    test('its variables list what the server has', async ({ page }) => {
      const variable = page.getByRole('region', { name: 'Variable' });
      await choose(page, variableEditor.label, 'service_name');
      await expect(variable.getByRole('status', { name: 'Values' })).toContainText(BURNER_SERVICE);
      await variable.getByTestId(variableEditor.kind).click();
      await page.getByRole('option', { name: 'Profile types' }).click();
      await expect(variable.getByRole('status', { name: 'Values' })).toContainText('CPU time');
      expect(problems).toEqual([]);
    });
  });
}

/** Opens a select and takes one of the server's options. */
async function choose(page: Page, testId: string, option: string) {
  await page.getByTestId(testId).click();
  await page.getByRole('option', { name: option }).first().click();
}

/** The JSON of one of the harness' outputs. */
async function output(page: Page, name: string): Promise<unknown> {
  return JSON.parse((await page.getByRole('status', { name }).textContent()) ?? 'null') as unknown;
}
