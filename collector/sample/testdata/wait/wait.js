// Waits in known functions: 14 ms and 6 ms in Atomics.wait, which sleeps, and for a
// child process. Argument: seconds to run. Prints the nanoseconds that each took by the
// clock less the CPU time of the process.
'use strict';
const cell = new Int32Array(new SharedArrayBuffer(4));
const spent = { long: 0, short: 0 };

function waitLong() {
  Atomics.wait(cell, 0, 0, 14);
}

function waitShort() {
  Atomics.wait(cell, 0, 0, 6);
}

function measure(name, wait) {
  const cpu = process.cpuUsage();
  const begin = process.hrtime.bigint();
  wait();
  const took = Number(process.hrtime.bigint() - begin);
  const used = process.cpuUsage(cpu);
  spent[name] += took - (used.user + used.system) * 1000;
}

function turn() {
  measure('long', waitLong);
  measure('short', waitShort);
}

for (let i = 0; i < 150; i++) {
  Atomics.wait(cell, 0, 0, 10); // until the sampler knows the process
}
const end = Date.now() + Number(process.argv[2]) * 1000;
while (Date.now() < end) {
  turn();
}
console.log(`${spent.long} ${spent.short}`);
