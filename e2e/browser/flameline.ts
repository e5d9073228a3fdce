import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT } from './prepare';

/** A function that nothing else on the machine has. */
export const BURNER_FUNCTION = 'burnInTheBrowserTest';
export const BURNER_SERVICE = 'browser-test-burner';

/** A real `flameline serve` that profiles this machine, with a busy process to see. */
export interface Flameline {
  url: string;
  stop: () => Promise<void>;
}

/** Starts the server and the burner; ready when the burner's series has a line to draw. */
export async function startFlameline(): Promise<Flameline> {
  const port = await freePort();
  const dir = mkdtempSync(path.join(tmpdir(), 'flameline-browser-'));
  const burner = startBurner();
  const server = spawn(
    path.join(ROOT, 'bin/flameline'),
    ['serve', `--web.listen-address=127.0.0.1:${port}`, `--storage.path=${path.join(dir, 'data')}`],
    { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] }
  );
  let log = '';
  const collect = (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4000));
  server.stdout.on('data', collect);
  server.stderr.on('data', collect);

  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    await Promise.all([end(burner), end(server)]);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await until('the server is ready', async () => (await fetch(`${url}/ready`)).ok, server);
    await until('the burner has a series', () => hasSeries(url), server);
  } catch (err) {
    await stop();
    throw new Error(`${err instanceof Error ? err.message : String(err)}\n${log}`, { cause: err });
  }
  return { url, stop };
}

/** A process that spends its time in one function, most of the time. */
function startBurner(): ChildProcess {
  const code = `
    function ${BURNER_FUNCTION}(until) {
      let x = 0;
      while (Date.now() < until) { for (let i = 0; i < 1e5; i++) { x = (x * 31 + i) % 1000003; } }
      return x;
    }
    setInterval(() => ${BURNER_FUNCTION}(Date.now() + 60), 100);`;
  return spawn(process.execPath, ['-e', code], {
    env: { ...process.env, OTEL_SERVICE_NAME: BURNER_SERVICE },
    stdio: 'ignore',
  });
}

/** Whether two steps of the burner's series are complete. */
async function hasSeries(url: string): Promise<boolean> {
  const query = {
    refId: 'A',
    queryType: 'metrics',
    profileTypeId: 'process_cpu:cpu:nanoseconds:cpu:nanoseconds',
    labelSelector: `{service_name="${BURNER_SERVICE}"}`,
  };
  const response = await fetch(`${url}/api/ds/query`, {
    method: 'POST',
    body: JSON.stringify({ queries: [query], from: 'now-5m', to: 'now' }),
  });
  const { results } = (await response.json()) as {
    results: Record<string, { frames?: Array<{ data: { values: number[][] } }> }>;
  };
  return (results['A']?.frames?.[0]?.data.values[0]?.length ?? 0) >= 2;
}

async function until(what: string, check: () => Promise<boolean>, server: ChildProcess): Promise<void> {
  const deadline = Date.now() + 90_000;
  while (Date.now() < deadline) {
    if (server.exitCode !== null) {
      throw new Error(`flameline ended with code ${server.exitCode} before ${what}`);
    }
    if (await check().catch(() => false)) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error(`it took too long until ${what}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) {
    return;
  }
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await exited;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') {
    throw new Error('no free port');
  }
  return address.port;
}
