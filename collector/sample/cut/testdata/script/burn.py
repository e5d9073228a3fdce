# Burns CPU time for some seconds in work, turn, burn; with the module native
# turn is called by its native_each. A second argument is the number of nested calls
# of nest before work.
import sys
import time

try:
    import native
except ImportError:
    native = None


def burn():
    x = 1
    for i in range(2000):
        x = (x * 31 + i) & 0xFFFFFFFF
    return x


def turn():
    for _ in range(10):
        burn()


def work(end):
    while time.monotonic() < end:
        if native:
            native.native_each(turn)
        else:
            turn()


def nest(depth, end):
    if depth == 0:
        work(end)
        return 0
    return nest(depth - 1, end) + 1


until = time.monotonic() + float(sys.argv[1])
if len(sys.argv) > 2:
    nest(int(sys.argv[2]), until)
else:
    work(until)
