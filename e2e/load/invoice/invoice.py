"""A load program: writes invoices in bursts, in one thread of its own.

compute_tax takes 70 % and format_lines 30 % of each burst; the CPU time that
each really took is measured with the thread's clock and shown on /metrics.
"""

import argparse
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BURST = 0.1  # seconds of CPU


def compute_tax(n):
    """Return n tax amounts added up, in cents."""
    total = 0
    for i in range(n):
        net = (i * 7919) % 100003
        rate = 19 if i % 3 else 7
        total += (net * rate + 50) // 100
    return total


def format_lines(n):
    """Return the checksum of n formatted lines."""
    checksum = 0
    for i in range(n):
        line = f"{i:06d} article {i % 97:>4} {i * 0.01:10.2f}"
        checksum = (checksum * 31 + len(line) + ord(line[3])) % 1000003
    return checksum


class Meter:
    """Runs a function for about `seconds` of CPU time and counts what it took."""

    def __init__(self, function, seconds):
        self.function = function
        self.seconds = seconds
        self.n = 1000
        self.total = 0.0

    def adjust(self, took):
        """Count a call's CPU seconds and fit n to the machine."""
        self.total += took
        scale = self.seconds / max(took, 1e-4)
        self.n = max(1, int(self.n * min(2.0, max(0.5, scale))))


class Invoices(threading.Thread):
    """The working thread: a burst, then a pause, so that `cores` are used."""

    def __init__(self, cores):
        super().__init__(daemon=True)
        self.pause = BURST / cores - BURST
        self.tax = Meter(compute_tax, 0.7 * BURST)
        self.lines = Meter(format_lines, 0.3 * BURST)

    def run(self):
        while True:
            self.write_invoice()
            time.sleep(self.pause * random.uniform(0.5, 1.5))

    def write_invoice(self):
        start = time.thread_time()
        compute_tax(self.tax.n)
        between = time.thread_time()
        format_lines(self.lines.n)
        end = time.thread_time()
        self.tax.adjust(between - start)
        self.lines.adjust(end - between)

    def metrics(self):
        lines = [
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {time.process_time():.6f}",
            "# HELP load_function_cpu_seconds_total CPU time of the thread while the function was running.",
            "# TYPE load_function_cpu_seconds_total counter",
        ]
        for meter in (self.tax, self.lines):
            name = meter.function.__name__
            lines.append(f'load_function_cpu_seconds_total{{function="{name}"}} {meter.total:.6f}')
        return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:4052", help="address to serve metrics on")
    parser.add_argument("--cores", type=float, default=0.2, help="CPU to use")
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    invoices = Invoices(args.cores)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = invoices.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Scrapes are not worth a line."""

    server = ThreadingHTTPServer((host, int(port)), Handler)
    invoices.start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
