# SPDX-License-Identifier: Apache-2.0
"""A user of kazoo's locks: HOSTS PATH LOG NAME ROUNDS MODE, with MODE mutex, read, write, junk or remove.

Takes the lock ROUNDS times, and writes into LOG when it enters and leaves. With 0 rounds it holds once, until the
file LOG.go is there. Writes NAME.done to LOG's folder at the end, with the error if there was one.
"""
import os
import sys
import time

from kazoo.client import KazooClient


def append(log, line):
    with open(log, "ab", buffering=0) as file:
        file.write(line.encode())


def run(hosts, path, log, name, rounds, mode):
    client = KazooClient(hosts=hosts, timeout=10)
    client.start(timeout=10)
    if mode == "junk":
        client.ensure_path(path)
        client.create(path + "/readme", b"not a lock")
        client.create(path + "/leases", b"")
        client.stop()
        return
    if mode == "remove":
        client.delete(path)
        client.stop()
        return
    lock = {"mutex": client.Lock, "read": client.ReadLock, "write": client.WriteLock}[mode](path, name)
    who = ("r " if mode == "read" else "w ") + name + "\n"
    for _ in range(max(1, int(rounds))):
        lock.acquire()
        append(log, "enter " + who)
        if rounds == "0":
            while not os.path.exists(log + ".go"):
                time.sleep(0.01)
        else:
            time.sleep(0.001)
        append(log, "leave " + who)
        lock.release()
    client.stop()


result = "ok"
try:
    run(*sys.argv[1:7])
except BaseException as error:  # the test wants to know
    result = repr(error)
with open(os.path.join(os.path.dirname(sys.argv[3]), sys.argv[4] + ".done"), "w") as file:
    file.write(result)
sys.exit(0 if result == "ok" else 1)
