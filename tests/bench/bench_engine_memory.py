"""P3 and P5 of one engine: memory of idle connections, and a gigabyte each way against a bare socket loop.

    .venv/bin/python -m tests.bench.bench_engine_memory [CONNECTIONS] [MEGABYTES] [eventlet|threads]

Prints one line a figure; ratios are of one run on one machine.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.conditions import many_descriptors
from tests.support.engine import Engines, serving, wait_for
from tests.support.processes import become_subreaper

BLOCK = b"x" * 65536


def memory(pid: int) -> int:
    """Resident octets of a process that are its own."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean", "Private_Dirty")))


def cpu(pid: int) -> float:
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(count: int, engine_name: str) -> None:
    """P3: connections that have asked once and are silent."""
    many_descriptors()
    settings = Http(keepalive_timeout=600, header_timeout=600)
    with serving(framing.app, settings, prepare=many_descriptors, engine=engine_name) as engine:
        pid = engine.pids[0]
        _ask(engine, [socket.create_connection(engine.address) for _ in range(10)])
        before = memory(pid)
        silent = [socket.create_connection((f"127.0.0.{1 + n // 20000}", engine.address[1])) for n in range(count)]
        _ask(engine, silent)
        wait_for(lambda: engine.rows[0].cells[7] >= count, timeout=60)
        each = (memory(pid) - before) / count
        spent = cpu(pid)
        time.sleep(3)
        spent = (cpu(pid) - spent) / 3
        print(f"idle: {count} connections, {each / 1024:.2f} KiB each, {spent:.2%} of a core")
        for one in silent:
            one.close()


def _ask(engine: Engines, silent: list[socket.socket]) -> None:
    for one in silent:
        one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        one.recv(1000)


def bare(total: int, *, upload: bool) -> tuple[float, float]:
    """A socket loop with nothing around it: octets a second, and a second of its own processor time."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        conn, _ = listener.accept()
        if upload:
            left = total
            while left:
                left -= len(conn.recv(65536))
            conn.sendall(b"done")
        else:
            for _ in range(total // len(BLOCK)):
                conn.sendall(BLOCK)
        os._exit(0)
    with socket.create_connection(listener.getsockname()) as client:
        rate = _exchange(client, total, b"" if upload else None)
    listener.close()
    used = os.wait4(pid, 0)[2]
    return rate, total / (used.ru_utime + used.ru_stime)


def _exchange(client: socket.socket, total: int, head: bytes | None) -> float:
    """Send `head` and `total` octets, or read as many; octets a second."""
    began = time.perf_counter()
    if head is not None:
        client.sendall(head)
        for _ in range(total // len(BLOCK)):
            client.sendall(BLOCK)
        client.recv(1000)
    else:
        left = total
        while left > 0:
            left -= len(client.recv(1 << 18))
    return total / (time.perf_counter() - began)


def transfer(total: int, engine_name: str) -> None:
    """P5."""
    with serving(framing.app, engine=engine_name) as engine:
        pid = engine.pids[0]
        for upload in (True, False):
            ratios, frugal = [], []
            most = [0]
            for _ in range(3):
                other, other_frugal = bare(total, upload=upload)
                done = threading.Event()
                before = memory(pid)
                spent = cpu(pid)

                def watch(done: threading.Event = done, most: list[int] = most, before: int = before) -> None:
                    while not done.wait(0.05):
                        most[0] = max(most[0], memory(pid) - before)

                thread = threading.Thread(target=watch)
                thread.start()
                with socket.create_connection(engine.address) as client:
                    if upload:
                        rate = _exchange(
                            client, total, b"PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total
                        )
                    else:
                        client.sendall(b"GET /big?%d HTTP/1.1\r\nHost: x\r\n\r\n" % (total // len(BLOCK)))
                        rate = _exchange(client, total, None)
                done.set()
                thread.join()
                ratios.append(rate / other)
                frugal.append(total / (cpu(pid) - spent) / other_frugal)
            what = "upload" if upload else "download"
            shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
            print(
                f"{what}: {total >> 20} MiB, {shown} x a bare loop; by processor time "
                f"{', '.join(f'{ratio:.2f}' for ratio in sorted(frugal))}; {most[0] / 1e6:.1f} MB grown"
            )


if __name__ == "__main__":
    become_subreaper()
    name = sys.argv[3] if len(sys.argv) > 3 else "eventlet"
    idle(int(sys.argv[1]) if len(sys.argv) > 1 else 10000, name)
    transfer((int(sys.argv[2]) if len(sys.argv) > 2 else 1024) << 20, name)
