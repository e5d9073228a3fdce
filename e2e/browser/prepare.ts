import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

export const ROOT = path.resolve(__dirname, '../..');
const GRAFANA_13 = path.join(__dirname, 'grafana13');

/** Checks what was built before, and builds what only the browser tests need. */
export default function prepare() {
  for (const [file, how] of [
    ['bin/flameline', 'go tool mage build'],
    ['dist/module.js', 'npm run build'],
    ['collector/web/dist/index.html', 'npm run build:page'],
  ] as const) {
    if (!existsSync(path.join(ROOT, file))) {
      throw new Error(`${file} is missing: run ${how}`);
    }
  }
  if (!existsSync(path.join(GRAFANA_13, 'node_modules/@grafana/ui'))) {
    run('npm', ['ci', '--no-audit', '--no-fund'], GRAFANA_13);
  }
  run('npx', ['webpack', '--env', 'harness12', '--env', 'harness13'], ROOT);
}

function run(command: string, args: string[], cwd: string) {
  execFileSync(command, args, { cwd, stdio: 'inherit' });
}
