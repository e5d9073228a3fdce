// Burns CPU time in two functions: seven parts of ten in burnHeavy, three in
// burnLight, measured by the process' CPU clock. Argument: CPU seconds to burn.
// Prints the CPU nanoseconds of both functions and of the process.
'use strict';

let sink = 1;
const spent = { heavy: 0, light: 0 };

function cpu() {
  const u = process.cpuUsage();
  return (u.user + u.system) * 1000;
}

function burnHeavy(until) {
  while (cpu() < until) {
    for (let i = 0; i < 200000; i++) {
      sink = (sink * 31 + i) | 0;
    }
  }
}

function burnLight(until) {
  while (cpu() < until) {
    for (let i = 0; i < 200000; i++) {
      sink = (sink ^ (i * 17)) | 0;
    }
  }
}

function turn() {
  const a = cpu();
  burnHeavy(a + 14e6);
  const b = cpu();
  burnLight(b + 6e6);
  spent.heavy += b - a;
  spent.light += cpu() - b;
}

function worker(goal) {
  while (cpu() < goal * 1e9) {
    turn();
  }
}

worker(Number(process.argv[2]));
console.log(spent.heavy, spent.light, cpu());
