"""Waits in known functions: 14 ms and 6 ms asleep, and for a pipe that another thread
writes to. Argument: seconds to run. Prints the nanoseconds that each took by the clock
less those of its CPU time."""

import os
import sys
import threading
import time

spent = {"long": 0, "short": 0, "pipe": 0}
request, answer = os.pipe(), os.pipe()


def wait_long():
    time.sleep(0.014)


def wait_short():
    time.sleep(0.006)


def wait_pipe():
    os.write(request[1], b"x")
    os.read(answer[0], 1)


def other():
    while os.read(request[0], 1):
        time.sleep(0.007)
        os.write(answer[1], b"x")


def measure(name, function):
    a, c = time.monotonic_ns(), time.thread_time_ns()
    function()
    spent[name] += time.monotonic_ns() - a - (time.thread_time_ns() - c)


def turn():
    measure("long", wait_long)
    measure("short", wait_short)
    measure("pipe", wait_pipe)


threading.Thread(target=other, daemon=True).start()
for _ in range(150):  # until the sampler knows the process
    time.sleep(0.01)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    turn()
print(spent["long"], spent["short"], spent["pipe"])
