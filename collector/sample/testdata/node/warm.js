// Compiles functions all the time and runs each until it is optimized, for the
// CPU seconds of its argument. Prints two zeros and the CPU nanoseconds of the
// process.
'use strict';

function cpu() {
  const u = process.cpuUsage();
  return (u.user + u.system) * 1000;
}

function make(n) {
  return new Function('a', `
    let sum = 0;
    for (const x of a) { sum = (sum * ${n + 3} + x) | 0; }
    return a.map((x) => x ^ ${n}).filter((x) => x % 3).sort((x, y) => x - y).length + sum;`);
}

const numbers = Array.from({ length: 200 }, (_, i) => i * 7919 % 1000);
let sink = 0;

function turn(n) {
  const f = make(n);
  for (let i = 0; i < 300; i++) {
    sink += f(numbers);
  }
}

const goal = Number(process.argv[2]) * 1e9;
for (let n = 0; cpu() < goal; n++) {
  turn(n);
}
console.log(0, 0, cpu());
