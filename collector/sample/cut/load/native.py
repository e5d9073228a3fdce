"""Python with native modules, for the seconds of its argument."""
import hashlib
import json
import re
import sqlite3
import sys
import time
import zlib

try:
    import numpy
except ImportError:
    numpy = None


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


class Ordered:
    def __init__(self, x):
        self.x = x

    def __lt__(self, other):
        return self.x < other.x


def arrays():
    a = numpy.random.rand(200, 200)
    b = a @ a
    numpy.linalg.svd(a[:80, :80])
    numpy.sort(a, axis=1)
    numpy.fft.fft(a)
    numpy.einsum('ij,jk->ik', a, b)
    return numpy.apply_along_axis(lambda row: row.sum(), 1, a).sum()


def text():
    all = json.loads(json.dumps([{'a': i, 'b': 'x%d' % i} for i in range(500)]))
    re.sub(r'(\w+) (\w+)', lambda m: m[2] + m[1], 'the quick brown fox ' * 100)
    return len(all)


def database():
    c = sqlite3.connect(':memory:')
    c.execute('create table t(a, b)')
    c.executemany('insert into t values(?, ?)', [(i, str(i)) for i in range(2000)])
    return c.execute('select sum(a) from t where b like "%1%"').fetchone()


end = time.time() + float(sys.argv[1])
while time.time() < end:
    if numpy:
        arrays()
    text()
    database()
    fib(16)
    sorted(Ordered(i * 7919 % 1000) for i in range(1000))
    zlib.compress(b'abc' * 20000)
    hashlib.sha256(b'x' * 100000).digest()
