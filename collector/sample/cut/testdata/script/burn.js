// Burns CPU time for some seconds in work, turn, burn; with an addon, whose file
// is the second argument, turn is called by its nativeEach.
'use strict';

const native = process.argv[3] ? require(process.argv[3]) : undefined;
let sink = 1;

function burn() {
  for (let i = 0; i < 20000; i++) {
    sink = (sink * 31 + i) | 0;
  }
}

function turn() {
  for (let i = 0; i < 10; i++) {
    burn();
  }
}

function work(end) {
  while (performance.now() < end) {
    if (native) {
      native.nativeEach(turn);
    } else {
      turn();
    }
  }
}

work(performance.now() + 1000 * Number(process.argv[2]));
