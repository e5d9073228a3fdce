"""A program that profiles itself with Pyroscope's SDK for Python and pushes to a
server.

    sender.py ADDRESS SERVICE SECONDS
"""

import sys
import time

import pyroscope


def main(address, service, seconds):
    if not pyroscope.configure(
        application_name=service,
        server_address=address,
        tags={"region": "eu"},
        enable_logging=True,
    ):
        sys.exit("the profiler has not started")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        with pyroscope.tag_wrapper({"controller": "checkout"}):
            checkout()
    pyroscope.shutdown()


# Takes some ten milliseconds.
STEP = 100_000


def checkout():
    """Does three quarters of its work for prices."""
    price_order(3 * STEP)
    validate_order(STEP)


def price_order(n):
    total = 0
    for i in range(n):
        total = total * 31 + i & 0xFFFF
    return total


def validate_order(n):
    total = 0
    for i in range(n):
        total = total * 31 + i & 0xFFFF
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
