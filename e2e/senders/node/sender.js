// A program that profiles itself with Pyroscope's SDK for Node.js and pushes to
// a server: wall-clock and CPU time, and the heap. It does so as often as the SDK
// does by default, every 60 s.
//
//   node sender.js ADDRESS SERVICE SECONDS
'use strict';

const { default: Pyroscope } = require('@pyroscope/nodejs');

const [serverAddress, appName, seconds] = process.argv.slice(2);
const baskets = [];

Pyroscope.init({
  appName,
  serverAddress,
  tags: { region: 'eu' },
  wall: { collectCpuTime: true },
  heap: { samplingIntervalBytes: 32 * 1024 },
});
Pyroscope.start();

// Takes some ten milliseconds.
const STEP = 2_000_000;

// Does three quarters of its work for prices.
function checkout() {
  priceOrder(3 * STEP);
  validateOrder(STEP);
}

function priceOrder(n) {
  return burn(n);
}

function validateOrder(n) {
  return burn(n);
}

function burn(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) {
    sum = (sum * 31 + i) % 65521;
  }
  return sum;
}

// Keeps what it allocates.
function fillBasket() {
  baskets.push(Array.from({ length: 2000 }, (_, i) => ({ item: i })));
}

const end = performance.now() + Number(seconds) * 1000;

async function work() {
  while (performance.now() < end) {
    Pyroscope.wrapWithLabels({ controller: 'checkout' }, checkout);
    fillBasket();
    await new Promise((done) => setImmediate(done)); // lets the SDK send
  }
  await Pyroscope.stop();
}

work().catch((error) => {
  console.error(error);
  process.exit(1);
});
