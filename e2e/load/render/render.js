// A load program: renders pages in bursts on the main thread.
//
// renderTemplate takes 70 % and minify 30 % of each burst; the CPU time that
// each really took is measured and shown on /metrics.
'use strict';

const http = require('node:http');
const { parseArgs } = require('node:util');

const BURST = 0.1; // seconds of CPU

const { values: flags } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:4053' },
    cores: { type: 'string', default: '0.2' },
  },
});

/** Returns the checksum of n rendered rows. */
function renderTemplate(n) {
  let checksum = 0;
  for (let i = 0; i < n; i++) {
    const name = i % 89;
    for (let c = 0; c < 24; c++) {
      checksum = (Math.imul(checksum, 31) + ((name * c) ^ i)) | 0;
    }
  }
  return checksum;
}

/** Returns what is left of n bytes after spaces are folded. */
function minify(n) {
  let kept = 0;
  let state = 1;
  let space = false;
  for (let i = 0; i < n; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    const isSpace = (state >>> 16) % 5 === 0;
    if (!isSpace || !space) {
      kept++;
    }
    space = isSpace;
  }
  return kept;
}

/**
 * CPU seconds of this thread where Node can tell (from version 23.9), else of
 * the process, whose other threads are idle while these functions run.
 */
function cpuSeconds() {
  const usage = process.threadCpuUsage ? process.threadCpuUsage() : process.cpuUsage();
  return (usage.user + usage.system) / 1e6;
}

/** Runs a function for about `seconds` of CPU time and counts what it took. */
class Meter {
  constructor(fn, seconds) {
    this.name = fn.name;
    this.seconds = seconds;
    this.n = 1000;
    this.total = 0;
  }

  /** Counts a call's CPU seconds and fits n to the machine. */
  adjust(took) {
    this.total += took;
    const scale = this.seconds / Math.max(took, 1e-4);
    this.n = Math.max(1, Math.floor(this.n * Math.min(2, Math.max(0.5, scale))));
  }
}

const template = new Meter(renderTemplate, 0.7 * BURST);
const minified = new Meter(minify, 0.3 * BURST);
let result = 0; // keeps the optimizer from dropping the work

function renderPage() {
  const start = cpuSeconds();
  result += renderTemplate(template.n);
  const between = cpuSeconds();
  result += minify(minified.n);
  const end = cpuSeconds();
  template.adjust(between - start);
  minified.adjust(end - between);
}

function work() {
  renderPage();
  const pause = (BURST / Number(flags.cores) - BURST) * (0.5 + Math.random());
  setTimeout(work, pause * 1000);
}

function metrics() {
  const usage = process.cpuUsage();
  const lines = [
    '# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.',
    '# TYPE process_cpu_seconds_total counter',
    `process_cpu_seconds_total ${(usage.user + usage.system) / 1e6}`,
    '# HELP load_function_cpu_seconds_total CPU time of the thread while the function was running.',
    '# TYPE load_function_cpu_seconds_total counter',
  ];
  for (const meter of [template, minified]) {
    lines.push(`load_function_cpu_seconds_total{function="${meter.name}"} ${meter.total}`);
  }
  return lines.join('\n') + '\n';
}

const at = flags.listen.lastIndexOf(':');
http
  .createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4' }).end(metrics());
  })
  .listen(Number(flags.listen.slice(at + 1)), flags.listen.slice(0, at), work);
