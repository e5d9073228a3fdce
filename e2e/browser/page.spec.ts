import { expect, type Locator, type Page, test } from '@playwright/test';
import { readFile } from 'node:fs/promises';
import { selectors } from '../../src/selectors';
import { BURNER_FUNCTION, BURNER_SERVICE, type Flameline, startFlameline } from './flameline';
import { watch } from './watch';

const { page: ids, queryEditor } = selectors;

let flameline: Flameline;

test.beforeAll(async () => {
  flameline = await startFlameline();
});

test.afterAll(async () => {
  await flameline?.stop();
});

const series = (page: Page) => page.getByTestId(ids.series);
const flameGraph = (page: Page) => page.getByTestId(ids.flameGraph);
const params = (page: Page) => new URL(page.url()).searchParams;

/** Opens the page for one service and waits for its flame graph. */
async function openBurner(page: Page, more = '') {
  const selector = encodeURIComponent(`{service_name="${BURNER_SERVICE}"}`);
  await page.goto(`${flameline.url}/?from=now-5m&to=now&refresh=&labelSelector=${selector}${more}`);
  await expect(flameGraph(page).locator('canvas')).toBeVisible();
}

/** The number of pixels of an element's canvas that are not empty. */
async function paintedPixels(page: Page, testId: string): Promise<number> {
  return page
    .getByTestId(testId)
    .locator('canvas')
    .first()
    .evaluate((canvas: HTMLCanvasElement) => {
      const data = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
      let painted = 0;
      for (let i = 3; i < data.length; i += 4) {
        painted += data[i] === 0 ? 0 : 1;
      }
      return painted;
    });
}

test('shows cores by service and a flame graph of all', async ({ page }) => {
  const problems = watch(page);
  await page.goto(flameline.url);

  await expect(page).toHaveTitle('Flameline');
  await expect(page.getByRole('heading', { name: 'Flameline' })).toBeVisible();
  await expect(series(page)).toContainText('CPU cores by service');
  await expect(series(page).getByRole('button', { name: BURNER_SERVICE })).toBeVisible();
  await expect.poll(() => paintedPixels(page, ids.series)).toBeGreaterThan(1000);
  await expect(flameGraph(page)).toContainText('CPU time of all services');
  await expect.poll(() => paintedPixels(page, ids.flameGraph)).toBeGreaterThan(1000);
  expect(problems).toEqual([]);
});

test('chooses a service, whose flame graph shows its function', async ({ page }) => {
  const problems = watch(page);
  await page.goto(`${flameline.url}/?from=now-5m&to=now&refresh=`);
  const service = page.getByTestId(queryEditor.service);
  await service.click();
  await service.fill('browser-test');
  await page.getByRole('option', { name: BURNER_SERVICE }).first().click();

  await expect.poll(() => params(page).get('labelSelector')).toBe(`{service_name="${BURNER_SERVICE}"}`);
  await expect(flameGraph(page)).toContainText(`CPU time of ${BURNER_SERVICE}`);
  await expect(flameGraph(page).getByText(new RegExp(BURNER_FUNCTION)).first()).toBeVisible();

  await page.goBack();
  await expect(flameGraph(page)).toContainText('CPU time of all services');
  expect(params(page).get('labelSelector')).toBeNull();
  expect(problems).toEqual([]);
});

test('chooses a service in the legend, and all again', async ({ page }) => {
  await page.goto(`${flameline.url}/?from=now-5m&to=now&refresh=`);
  await series(page).getByRole('button', { name: BURNER_SERVICE }).click();
  await expect(flameGraph(page)).toContainText(`CPU time of ${BURNER_SERVICE}`);
  await page.getByTestId(ids.allServices).click();
  await expect(flameGraph(page)).toContainText('CPU time of all services');
});

test('filters by a label with completion', async ({ page }) => {
  await openBurner(page);
  await page.getByTestId(queryEditor.addFilter).click();
  await page.getByTestId(queryEditor.filterName).click();
  await page.getByRole('option', { name: 'comm' }).click();
  await page.getByTestId(queryEditor.filterValue).click();
  await page.getByRole('option').first().click();
  await expect.poll(() => params(page).get('labelSelector')).toMatch(/^{service_name="[^"]+", comm="[^"]+"}$/);
  await expect(flameGraph(page).getByText(new RegExp(BURNER_FUNCTION)).first()).toBeVisible();
});

test('selects a time range by dragging, and goes back', async ({ page }) => {
  await openBurner(page);
  const plot = series(page).locator('.u-over');
  await expect(plot).toBeVisible();
  const box = await plot.boundingBox();
  if (!box) {
    throw new Error('the graph has no place on the page');
  }
  const before = await flameGraphRequest(page, async () => {
    await page.mouse.move(box.x + box.width * 0.7, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.95, box.y + box.height / 2, { steps: 5 });
    await page.mouse.up();
  });

  await expect.poll(() => params(page).get('from')).toMatch(/^\d+$/);
  const [from, to] = [Number(params(page).get('from')), Number(params(page).get('to'))];
  // A quarter of five minutes.
  expect(to - from).toBeGreaterThan(60_000);
  expect(to - from).toBeLessThan(90_000);
  expect([before.from, before.to]).toEqual([String(from), String(to)]);

  await page.goBack();
  await expect.poll(() => params(page).get('from')).toBe('now-5m');
});

/** The body of the next request for a flame graph that an action causes. */
async function flameGraphRequest(page: Page, action: () => Promise<void>): Promise<{ from: string; to: string }> {
  const [request] = await Promise.all([
    page.waitForRequest((r) => r.url().endsWith('/api/ds/query') && (r.postData() ?? '').includes('"profile"')),
    action(),
  ]);
  return request.postDataJSON() as { from: string; to: string };
}

/** Opens a view of the burner. The window before it has no profiles: the burner had not begun. */
async function openView(page: Page, queryType: string, testId: string, more = '') {
  const selector = encodeURIComponent(`{service_name="${BURNER_SERVICE}"}`);
  await page.goto(
    `${flameline.url}/?from=now-5m&to=now&refresh=&labelSelector=${selector}&queryType=${queryType}${more}`
  );
  const panel = page.getByTestId(testId);
  await expect(panel).toBeVisible();
  return panel;
}

const row = (panel: Locator, name: string | RegExp) => panel.getByRole('row').filter({ hasText: name });

test('switches the view, and goes back', async ({ page }) => {
  const problems = watch(page);
  await openBurner(page);
  await page.getByTestId(ids.view).getByRole('radio', { name: 'Functions', exact: true }).click();
  await expect(page.getByTestId(ids.functions)).toContainText(`CPU time of ${BURNER_SERVICE} by function`);
  expect(params(page).get('queryType')).toBe('functions');
  await expect(row(page.getByTestId(ids.functions), BURNER_FUNCTION).first()).toBeVisible();
  await page.goBack();
  await expect(flameGraph(page).locator('canvas')).toBeVisible();
  await page.goForward();
  await expect(page.getByTestId(ids.functions)).toBeVisible();
  expect(problems).toEqual([]);
});

test('chooses a view by the keyboard', async ({ page }) => {
  await openBurner(page);
  await page.getByTestId(ids.view).getByRole('radio', { name: 'Flame graph' }).focus();
  await page.keyboard.press('ArrowRight');
  await expect.poll(() => params(page).get('queryType')).toBe('comparison');
});

test('compares with the window before, in one click from a selected range', async ({ page }) => {
  const problems = watch(page);
  await openBurner(page);
  await page.getByTestId(ids.compare).click();
  await expect(flameGraph(page)).toContainText(`CPU time of ${BURNER_SERVICE}, compared with the window before`);
  expect(params(page).get('baseline')).toBe('previous');
  await expect.poll(() => paintedPixels(page, ids.flameGraph)).toBeGreaterThan(1000);
  await expect(flameGraph(page).getByText(new RegExp(BURNER_FUNCTION)).first()).toBeVisible();

  await page.getByTestId(queryEditor.baselineKind).click();
  await page.getByRole('option', { name: /^Earlier/ }).click();
  await expect(flameGraph(page)).toContainText('compared with 1d earlier');
  expect(params(page).get('baselineOffset')).toBe('1d');
  expect(problems).toEqual([]);
});

test('explains the change since the window before', async ({ page }) => {
  const problems = watch(page);
  await openBurner(page);
  await page.getByTestId(ids.explainChange).click();
  const panel = page.getByTestId(ids.explain);
  await expect(panel.getByTestId(ids.explanation)).toContainText(/a rise of .*burnInTheBrowserTest/);
  // The sentence is the first thing of the panel, and no notice as well.
  await expect(panel.getByTestId(ids.notices).filter({ hasText: 'a rise of' })).toHaveCount(0);
  await expect(row(panel, BURNER_FUNCTION).first()).toContainText('function');
  expect(problems).toEqual([]);
});

test('sorts functions, and shows one over time', async ({ page }) => {
  const problems = watch(page);
  const panel = await openView(page, 'functions', ids.functions);
  const total = panel.getByRole('columnheader', { name: 'Sort column Total', exact: true });
  await total.getByRole('button').click();
  await expect(total).toHaveAttribute('aria-sort', 'descending');
  await row(panel, BURNER_FUNCTION).first().getByRole('button').click();
  const series = page.getByTestId(ids.functionSeries);
  await expect(series.getByRole('button', { name: new RegExp(BURNER_FUNCTION) }).first()).toBeVisible();
  await expect.poll(() => paintedPixels(page, ids.functionSeries)).toBeGreaterThan(500);
  expect(params(page).get('functions')).toContain(BURNER_FUNCTION);
  expect(problems).toEqual([]);
});

test('shows a heat map, whose cells lead to their flame graph', async ({ page }) => {
  const problems = watch(page);
  const panel = await openView(page, 'heatmap', ids.heatmap, '&groupBy=comm');
  const plot = panel.locator('.u-over');
  await expect(plot).toBeVisible();
  await expect.poll(() => paintedPixels(page, ids.heatmap)).toBeGreaterThan(1000);
  await expect(panel.getByTestId(ids.heatmapScale)).toContainText('cores');
  // The newest column is the last one before the right edge.
  const box = await plot.boundingBox();
  if (!box) {
    throw new Error('the heat map has no place on the page');
  }
  const value = panel.getByRole('status');
  let x = box.x + box.width;
  await expect(async () => {
    x -= 4;
    await page.mouse.move(x, box.y + box.height - 5);
    await expect(value).toHaveText(/ cores$/, { timeout: 200 });
  }).toPass({ intervals: [20] });
  await page.mouse.down();
  await page.mouse.up();
  await expect(flameGraph(page).locator('canvas')).toBeVisible();
  expect(params(page).get('labelSelector')).toMatch(/comm="[^"]+"/);
  expect(Number(params(page).get('to')) - Number(params(page).get('from'))).toBeGreaterThanOrEqual(1000);
  await page.goBack();

  // The middle half of five minutes, by dragging.
  await expect(plot).toBeVisible();
  await page.mouse.move(box.x + box.width / 4, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + (box.width * 3) / 4, box.y + box.height / 2, { steps: 5 });
  await page.mouse.up();
  await expect.poll(() => params(page).get('from')).toMatch(/^\d+$/);
  const length = Number(params(page).get('to')) - Number(params(page).get('from'));
  expect(length).toBeGreaterThan(140_000);
  expect(length).toBeLessThan(160_000);
  expect(params(page).get('queryType')).toBe('heatmap');
  expect(problems).toEqual([]);
});

test('selects a time range of a heat map by the keyboard', async ({ page }) => {
  const panel = await openView(page, 'heatmap', ids.heatmap);
  await expect(panel.locator('.u-over')).toBeVisible();
  await page.getByTestId(ids.view).getByRole('radio', { name: 'Heat map' }).focus();
  await expect(async () => {
    await page.keyboard.press('Tab');
    await expect(panel.getByRole('application')).toBeFocused({ timeout: 200 });
  }).toPass({ intervals: [20] });
  await page.keyboard.down('Space');
  await page.keyboard.down('ArrowRight');
  await expect.poll(() => panel.locator('.u-select').evaluate((e) => e.clientWidth)).toBeGreaterThan(50);
  await page.keyboard.up('ArrowRight');
  await page.keyboard.up('Space');
  await expect.poll(() => params(page).get('from')).toMatch(/^\d+$/);
  expect(params(page).get('queryType')).toBe('heatmap');
});

test('copies a link with fixed times, which opens the same', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await openView(page, 'explain', ids.explain, '&baseline=offset&baselineOffset=1h&limit=5&theme=dark');
  await page.getByTestId(ids.share).click();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const query = Object.fromEntries(new URL(link).searchParams);
  expect(query).toMatchObject({ queryType: 'explain', baseline: 'offset', baselineOffset: '1h', limit: '5' });
  expect(Number(query['to']) - Number(query['from'])).toBe(300_000);
  expect(query['theme']).toBeUndefined();
  await page.goto(link);
  await expect(page.getByTestId(ids.explanation)).toContainText(BURNER_FUNCTION);
});

for (const [queryType, testId, formats] of [
  ['profile', ids.flameGraph, ['pprof', 'Folded stacks', 'speedscope', 'SVG', 'HTML', 'Graphviz', 'JSON']],
  ['comparison', ids.flameGraph, ['Folded stacks', 'SVG', 'HTML', 'JSON']],
] as const) {
  test(`downloads what a ${queryType} shows in every format`, async ({ page }) => {
    const panel = await openView(page, queryType, testId);
    await panel.getByTestId(ids.download).click();
    for (const name of formats) {
      const item = page.getByRole('menuitem', { name });
      const response = await page.request.get(new URL((await item.getAttribute('href')) ?? '', page.url()).href);
      expect(response.status(), name).toBe(200);
      if (name !== 'pprof') {
        expect(await response.text(), name).toContain(BURNER_FUNCTION);
      }
    }
  });
}

test('downloads a table as CSV', async ({ page }) => {
  const panel = await openView(page, 'functions', ids.functions);
  await expect(row(panel, BURNER_FUNCTION).first()).toBeVisible();
  await panel.getByTestId(ids.download).click();
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('menuitem', { name: 'CSV' }).click(),
  ]);
  expect(download.suggestedFilename()).toBe('functions.csv');
  const text = await readFile(await download.path(), 'utf8');
  expect(text).toMatch(/Function.*Own/);
  expect(text).toContain(BURNER_FUNCTION);
});

test('switches the theme, and keeps it in the URL', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'light' });
  await openBurner(page);
  const background = () => page.getByTestId(ids.root).evaluate((e) => getComputedStyle(e).backgroundColor);
  const light = await background();
  await page.getByTestId(ids.theme).click();
  await expect.poll(() => params(page).get('theme')).toBe('dark');
  await expect.poll(background).not.toBe(light);
  const dark = await background();
  await page.reload();
  await expect.poll(background).toBe(dark);
});

test('follows the browser to the dark theme', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'dark' });
  await openBurner(page);
  await expect(page.locator('body')).toHaveClass('theme-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await expect(page.locator('body')).toHaveClass('theme-light');
});

test('follows the link of an alert', async ({ page }) => {
  const problems = watch(page);
  const startsAt = new Date(Date.now() - 60_000).toISOString();
  const alert = new URLSearchParams({
    alertname: 'HighCPU',
    service_name: BURNER_SERVICE,
    severity: 'warning',
    startsAt,
  });
  await page.goto(`${flameline.url}/drilldown?${alert}`);
  expect(params(page).get('labelSelector')).toBe(`{service_name="${BURNER_SERVICE}"}`);
  await expect(flameGraph(page).getByText(new RegExp(BURNER_FUNCTION)).first()).toBeVisible();
  // What could not be taken over is named.
  await expect(page.getByTestId(ids.notices).first()).toContainText('severity');
  expect(problems).toEqual([]);
});

test('says what to do where there is nothing', async ({ page }) => {
  const problems = watch(page);
  const selector = encodeURIComponent('{service_name="no-such-service"}');
  await page.goto(`${flameline.url}/?labelSelector=${selector}`);
  await expect(series(page)).toContainText('No data in this time range');
  await expect(flameGraph(page).getByTestId(ids.empty)).toContainText('No profiles match in this time range');
  await expect(flameGraph(page).getByTestId(ids.empty)).toContainText('Connected to Flameline');
  expect(problems).toEqual([]);
});

test('shows the message of an error', async ({ page }) => {
  await page.goto(`${flameline.url}/?profileTypeId=nonsense`);
  await expect(flameGraph(page).getByTestId(ids.error)).toContainText('profileTypeId');
});

test('refreshes by itself, and cancels a request that is overtaken', async ({ page }) => {
  let held = 0;
  let canceled = 0;
  page.on('requestfailed', (request) => {
    canceled += request.failure()?.errorText.includes('ERR_ABORTED') ? 1 : 0;
  });
  await page.route('**/api/ds/query', async (route) => {
    if (held < 2) {
      held++; // Never answered: the next refresh has to overtake it.
      return;
    }
    await route.continue();
  });
  await page.goto(`${flameline.url}/?from=now-5m&to=now&refresh=1s`);
  await expect.poll(() => canceled).toBeGreaterThanOrEqual(2);
  await expect(flameGraph(page).locator('canvas')).toBeVisible();
});
