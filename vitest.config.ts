import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.{ts,tsx}', 'collector/web/page/**/*.test.{ts,tsx}'],
    // Loading Grafana's packages takes longer than all tests: do it once.
    isolate: false,
    fileParallelism: false,
    setupFiles: ['src/test/setup.ts'],
    // These packages' modules import others without a file extension.
    server: { deps: { inline: [/@grafana\//] } },
    alias: { '@grafana/assistant': new URL('src/test/empty.ts', import.meta.url).pathname },
  },
});
