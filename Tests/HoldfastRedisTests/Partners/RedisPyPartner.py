# SPDX-License-Identifier: Apache-2.0
"""A user of redis-py's Lock: PORT NAME ROUNDS.

Adds 1 to the key `value` ROUNDS times, by reading and writing it, under the lock NAME. Adds 1 to the key `done` at the end if all went well.
"""
import sys
import time

import redis


def run(port, name, rounds):
    client = redis.Redis(port=int(port), decode_responses=True)
    for _ in range(int(rounds)):
        lock = client.lock(name, timeout=20, sleep=0.002)
        if not lock.acquire(blocking_timeout=60):
            raise RuntimeError("no lock within 60 s")
        value = int(client.get("value") or 0)
        time.sleep(0.0005)
        client.set("value", value + 1)
        lock.release()
    client.incr("done")


run(*sys.argv[1:4])
