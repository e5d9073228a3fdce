import { defineConfig } from '@playwright/test';
import { chromium } from './chromium';

export default defineConfig({
  testDir: '.',
  testMatch: 'screenshot.ts',
  outputDir: '../../test-results/screenshot',
  reporter: [['list']],
  workers: 1,
  use: {
    viewport: { width: 1400, height: 1040 },
    deviceScaleFactor: 2,
    launchOptions: chromium(),
  },
});
