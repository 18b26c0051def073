# SPDX-License-Identifier: Apache-2.0
"""A user of pottery's Redlock: PORTS NAME ROUNDS, with commas between the ports.

Adds 1 to the key `value` on the first server ROUNDS times, by reading and writing it, under the lock NAME. Adds 1 to the key `done` there at the end if all went well.
"""
import sys
import time

import redis
from pottery import Redlock

# It polls about as often as this.
Redlock._RETRY_DELAY = 0.004


def run(ports, name, rounds):
    masters = [redis.Redis(port=int(port), decode_responses=True) for port in ports.split(",")]
    first = masters[0]
    lock = Redlock(key=name, masters=set(masters), auto_release_time=20)
    for _ in range(int(rounds)):
        if not lock.acquire(timeout=60):
            raise RuntimeError("no lock within 60 s")
        value = int(first.get("value") or 0)
        time.sleep(0.0005)
        first.set("value", value + 1)
        lock.release()
    first.incr("done")


run(*sys.argv[1:4])
