import { expect, test } from '@playwright/test';
import path from 'node:path';
import { selectors } from '../../src/selectors';

/** A running demo, some ten minutes old so that spikes are there. */
const URL = process.env['FLAMELINE_URL'] ?? 'http://127.0.0.1:4040';

/** The demo's load programs: nothing else of this machine belongs in the README. */
const SERVICES = '{service_name=~"order|invoice|render|search|thumbnail"}';

for (const theme of ['light', 'dark']) {
  test(`draw docs/img/page-${theme}.png`, async ({ page }) => {
    const query = new URLSearchParams({ from: 'now-10m', to: 'now', refresh: '', theme, labelSelector: SERVICES });
    await page.goto(`${URL}/?${query}`);
    const panel = page.getByTestId(selectors.page.flameGraph);
    await expect(panel.locator('canvas')).toBeVisible();
    await expect(page.getByTestId(selectors.page.series).locator('.u-over')).toBeVisible();
    await page.waitForLoadState('networkidle'); // fonts and icons
    await page.mouse.move(0, 0);
    await page.screenshot({ path: path.resolve(__dirname, `../../docs/img/page-${theme}.png`) });
  });
}
