"""The mold of a generation: a process that has loaded the application, and forks the workers from there.

It waits in recvmsg(2) for orders of the parent, and runs nothing else: no event loop, no thread, no request. Before the first
order it collects what is garbage and freezes the rest (gc.freeze): a collection in a worker writes into each object that it
visits, and a page that is written to is no longer shared.

Each order brings the descriptors of one worker, so the mold itself holds no listening socket. The worker becomes a child of the
parent (posix.processes.bear), and says so over its own channel, where the kernel vouches for its pid.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import setproctitle

from apid import channel
from apid.errors import ExitCode
from apid.posix import processes, rights
from apid.worker.forks import Forks

GIVEN = 3
"""Descriptors that every order brings: the worker's channel, its stacks, the memory of all workers."""


def serve(ticket: channel.Ticket, ready: channel.Ready, forks: Forks) -> channel.Ticket:
    """Say that the application is loaded, and fork workers until the parent is gone; called with all signals blocked.

    Returns the ticket of the worker, in that worker, its signals blocked. It never returns in the mold.
    """
    sock = ticket.channel
    if sock is None:
        raise ValueError("a mold has a parent")
    parent = os.getppid()
    setproctitle.setproctitle(f"apid: mold (generation {ticket.generation})")
    _flush()
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    of_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # with SIG_IGN nothing can be waited for
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    try:
        sock.setblocking(True)
        sock.send(channel.encode(ready))
        while True:
            packet, descriptors = rights.receive(sock, channel.MAX_MESSAGE + 1)
            if not packet:
                break
            order = channel.decode(packet, channel.Sender.PARENT)
            if not isinstance(order, channel.Fork):
                continue
            rights.receive_more(sock, descriptors, GIVEN + sum(order.listeners.values()))
            worker = _fork(order, descriptors, ticket, forks, parent)
            if worker is not None:
                if of_children is not None:
                    signal.signal(signal.SIGCHLD, of_children)
                return worker
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.write(2, f"apid: a process of generation {ticket.generation}'s mold ends: {error}\n".encode())
        os._exit(ExitCode.BUG)
    os._exit(ExitCode.OK)


def _fork(
    order: channel.Fork, descriptors: Sequence[int], ticket: channel.Ticket, forks: Forks, parent: int
) -> channel.Ticket | None:
    """Fork a worker; returns its ticket in the worker, None in the mold."""
    theirs, stacks, memory, *listening = descriptors
    alone = os.getsid(0) == os.getpid()
    forks.bearing = True
    try:
        born = processes.bear(parent)
    except OSError as error:
        born = False
        with contextlib.suppress(OSError):
            reason = channel.encode(channel.NotBorn(error.strerror or str(error)))
            with rights.stream(os.dup(theirs)) as sock:
                sock.send(reason)
    if not born:
        forks.bearing = False
        for fd in descriptors:
            os.close(fd)
        return None
    if alone:  # what is sent to a worker's process group reaches neither the mold nor other workers
        os.setsid()
    _let_threads_start()
    if ticket.channel is not None:
        ticket.channel.close()
    row = ticket.board.row(order.row)
    sockets = iter(map(rights.stream, listening))
    worker = dataclasses.replace(
        ticket,
        slot=order.slot,
        listeners={name: [next(sockets) for _ in range(number)] for name, number in order.listeners.items()},
        channel=rights.stream(theirs),
        row=row,
        trial=False,
        mold=False,
        stacks=stacks,
    )
    setproctitle.setproctitle(f"apid: worker {worker.slot} (generation {worker.generation})")
    ticket.board.move_in(memory, ticket.row, row)
    forks.move_in(worker)
    try:
        worker.channel.send(channel.encode(channel.Born()))  # type: ignore[union-attr]  # just made
    except OSError:
        os._exit(ExitCode.OK)  # the parent is gone, or waits for it no more
    return worker


def _flush() -> None:
    """Write out what files keep in their buffers: each worker would write it once more."""
    for one in gc.get_objects():
        if type(one) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            with contextlib.suppress(Exception):  # closed, or a full disk
                one.flush()


def _let_threads_start() -> None:
    """After a fork `threading` takes each thread but one for ended: also those that the application has made and not started."""
    for name in ("threading", "__original_module_threading"):  # the second one is eventlet's unpatched copy
        module: Any = sys.modules.get(name)
        for thread in list(getattr(module, "_dangling", ())):
            if thread._started.is_set():  # noqa: SLF001 - its only name
                continue
            if hasattr(module, "_ThreadHandle"):  # 3.13 and later
                thread._handle = module._ThreadHandle()  # noqa: SLF001 - as above
            else:
                thread._is_stopped = False  # noqa: SLF001 - as above
