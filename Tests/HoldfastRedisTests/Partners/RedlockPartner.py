# SPDX-License-Identifier: Apache-2.0
"""A user of a plain Redlock library: LIBRARY PORTS NAME ROUNDS, with commas between the ports.

The library is pottery, redlock-py or redlock-ng. Adds 1 to the key `value` on the first server ROUNDS times, by reading and writing it, under the lock NAME. Adds 1 to the key `done` there at the end if all went well.
"""
import sys
import time

import redis

# Each polls about as often as this, in seconds, and gives up after about a minute.
PAUSE = 0.004
TRIES = 10_000
LEASE = 20


def pottery(ports, name):
    from pottery import Redlock

    Redlock._RETRY_DELAY = PAUSE
    masters = {redis.Redis(port=port, decode_responses=True) for port in ports}
    lock = Redlock(key=name, masters=masters, auto_release_time=LEASE)
    return (lambda: lock.acquire(timeout=60)), (lambda _: lock.release())


def redlock_py(ports, name):
    from redlock import Redlock

    manager = Redlock([{"host": "127.0.0.1", "port": port} for port in ports], TRIES, PAUSE)
    return (lambda: manager.lock(name, LEASE * 1000)), manager.unlock


def redlock_ng(ports, name):
    from redlock import Redlock

    manager = Redlock([f"redis://127.0.0.1:{port}" for port in ports], TRIES, PAUSE / 2, PAUSE)
    return (lambda: manager.acquire(name, LEASE * 1000)), manager.release


def run(library, ports, name, rounds):
    ports = [int(port) for port in ports.split(",")]
    first = redis.Redis(port=ports[0], decode_responses=True)
    makers = {"pottery": pottery, "redlock-py": redlock_py, "redlock-ng": redlock_ng}
    acquire, release = makers[library](ports, name)
    for _ in range(int(rounds)):
        lock = acquire()
        if not lock:
            raise RuntimeError("no lock within a minute")
        value = int(first.get("value") or 0)
        time.sleep(0.0005)
        first.set("value", value + 1)
        release(lock)
    first.incr("done")


run(*sys.argv[1:5])
