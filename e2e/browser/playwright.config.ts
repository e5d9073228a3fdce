import { defineConfig } from '@playwright/test';
import { chromium } from './chromium';

export default defineConfig({
  testDir: '.',
  outputDir: '../../test-results/browser',
  globalSetup: './prepare.ts',
  reporter: [['list']],
  // One server at a time: each profiles the whole machine.
  workers: 1,
  timeout: 180_000,
  expect: { timeout: 20_000 },
  use: {
    viewport: { width: 1400, height: 1000 },
    actionTimeout: 30_000,
    screenshot: 'only-on-failure',
    launchOptions: chromium(),
  },
});
