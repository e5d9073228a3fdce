// An HTTP server and its clients, for the seconds of its argument.
'use strict';
const http = require('http');
const zlib = require('zlib');
const crypto = require('crypto');

class Square {
  constructor(x) { this.x = x; }
  area() { return this.x * this.x; }
}
class Double extends Square {
  area() { return super.area() * 2; }
}
function fib(n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

function work(i) {
  const all = [];
  for (let k = 0; k < 300; k++) all.push(k % 2 ? new Square(k) : new Double(k));
  let sum = all.map((s) => s.area()).filter((v) => v % 3).sort((a, b) => b - a).reduce((a, b) => a + b, 0);
  sum += JSON.parse(JSON.stringify(all)).length + fib(15);
  sum += 'the quick brown fox'.repeat(20).replace(/(\w+) (\w+)/g, (m, a, b) => b + a).length;
  const m = new Map();
  for (let k = 0; k < 500; k++) m.set('k' + (k * i % 97), k);
  sum += m.size + crypto.createHash('sha256').update('x' + i).digest('hex').length;
  if (i % 10 === 0) sum += zlib.gzipSync(Buffer.alloc(20000, 'abc' + i)).length;
  if (i % 50 === 0) sum += new Function('a', `let s = 0; for (let i = 0; i < a; i++) s += i * ${i}; return s`)(1000) % 7;
  try {
    if (i % 3 === 0) throw new Error('e' + i);
  } catch (e) {
    sum += e.stack.length;
  }
  return sum;
}

const end = Date.now() + Number(process.argv[2]) * 1000;
const server = http.createServer((q, r) => r.end(String(work(Number(q.url.slice(1)) || 1))));
server.listen(0, '127.0.0.1', async () => {
  const { port } = server.address();
  const agent = new http.Agent({ keepAlive: true });
  let i = 0;
  const one = () => new Promise((done) => {
    http.get({ host: '127.0.0.1', port, path: '/' + i++, agent }, (r) => r.on('data', () => {}).on('end', done));
  });
  while (Date.now() < end) await Promise.all([one(), one(), one(), one()]);
  process.exit(0);
});
