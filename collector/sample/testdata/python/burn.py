"""Burns CPU time in two functions: seven parts of ten in burn_heavy, three in
burn_light, measured by the thread's CPU clock. Argument: CPU seconds to burn.
Prints the CPU nanoseconds of both functions and of the process."""

import sys
import threading
import time

spent = {"heavy": 0, "light": 0}


def burn_heavy(until):
    x = 1
    while time.thread_time_ns() < until:
        for i in range(2000):
            x = (x * 31 + i) & 0xFFFFFFFF
    return x


def burn_light(until):
    x = 1
    while time.thread_time_ns() < until:
        for i in range(2000):
            x = (x ^ (i * 17)) & 0xFFFFFFFF
    return x


def turn():
    a = time.thread_time_ns()
    burn_heavy(a + 7_000_000)
    b = time.thread_time_ns()
    burn_light(b + 3_000_000)
    spent["heavy"] += b - a
    spent["light"] += time.thread_time_ns() - b


def worker(goal):
    while time.thread_time() < goal:
        turn()


thread = threading.Thread(target=worker, args=(float(sys.argv[1]),))
thread.start()
thread.join()
print(spent["heavy"], spent["light"], time.process_time_ns())
