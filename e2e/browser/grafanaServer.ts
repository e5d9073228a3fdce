import { createReadStream, existsSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import path from 'node:path';
import { ROOT } from './prepare';

const PLUGIN_PATH = '/public/plugins/flameline-profiles-datasource/';
const RESOURCES = /^\/api\/datasources\/uid\/[^/]+\/resources\//;

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.woff2': 'font/woff2',
};

export interface GrafanaServer {
  url: string;
  stop: () => Promise<void>;
}

/**
 * Serves a harness with the built plugin, and Grafana's API for one data
 * source, whose backend is the one in a running flameline.
 */
export async function startGrafanaServer(harness: string, flameline: string): Promise<GrafanaServer> {
  const server = createServer((req, res) => {
    const { pathname, search } = new URL(req.url ?? '/', 'http://localhost');
    if (RESOURCES.test(pathname)) {
      forward(req, res, `${flameline}/api/resources/${pathname.replace(RESOURCES, '')}${search}`);
    } else if (pathname === '/api/ds/query') {
      forward(req, res, `${flameline}/api/ds/query`);
    } else if (pathname.startsWith(PLUGIN_PATH)) {
      sendFile(res, path.join(ROOT, 'dist'), pathname.slice(PLUGIN_PATH.length));
    } else {
      sendFile(res, path.join(ROOT, 'test-results', harness), pathname === '/' ? 'index.html' : pathname);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') {
    throw new Error('no address to listen on');
  }
  return {
    url: `http://127.0.0.1:${address.port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function forward(req: IncomingMessage, res: ServerResponse, url: string) {
  const onward = request(url, { method: req.method, headers: { 'content-type': 'application/json' } }, (answer) => {
    res.writeHead(answer.statusCode ?? 502, { 'content-type': answer.headers['content-type'] ?? '' });
    answer.pipe(res);
  });
  onward.on('error', (err) => res.writeHead(502).end(JSON.stringify({ message: err.message })));
  req.pipe(onward);
}

function sendFile(res: ServerResponse, dir: string, name: string) {
  const file = path.join(dir, path.normalize(`/${name}`));
  if (!existsSync(file)) {
    res.writeHead(404).end();
    return;
  }
  res.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(res);
}
