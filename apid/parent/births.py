"""How children come to be, and what ties the parent to each: a channel, a row of the scoreboard, a memfd for stacks.

The parent forks molds, trials and the workers that load by themselves. A worker of a mold is ordered: its descriptors go to the
mold (SCM_RIGHTS), and the worker speaks over the other end of its channel once it is the parent's child. Its pid is the one that
the kernel gives for that packet (SCM_CREDENTIALS): no mold can pass another process off as a worker. The end of the channel
before that says that there will be no worker, whatever has become of the mold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from apid import channel
from apid.conf.settings import Settings
from apid.parent import events
from apid.parent.events import Event
from apid.parent.listeners import Listeners
from apid.parent.stacks import Stacks
from apid.posix import processes, rights
from apid.scoreboard import ROWS, Scoreboard

BORN_WITHIN = 15.0
"""Seconds from an order to a birth after which nothing waits for it any more: its mold has been given up by then."""

TRIALS = ROWS - 1
"""The row of trials and molds, which count nothing."""

Keys = Mapping[str, Mapping[str, str]]
"""Where a generation listens: by listener the keys of its sockets, with their addresses."""


@dataclasses.dataclass(eq=False, slots=True)
class Birth:
    """A worker that was ordered and has not spoken yet; `at`: monotonic seconds of the order."""

    sock: socket.socket
    stacks: int
    row: int
    slot: int
    generation: int
    mold: int
    at: float


class Births:
    """The children's descriptors and rows.

    Attributes:
        channels: our ends, by pid of worker, mold or trial. rows: by pid of a worker. unborn: what was ordered.
    """

    def __init__(self, board: Scoreboard, listeners: Listeners) -> None:
        self._board = board
        self._listeners = listeners
        self.channels: dict[int, socket.socket] = {}
        self.rows: dict[int, int] = {}
        self.stacks = Stacks()
        self.unborn: list[Birth] = []

    def free_row(self) -> int:
        """A row that nobody has, and nobody is about to get; -1: there is none."""
        taken = {*self.rows.values(), *(birth.row for birth in self.unborn)}
        return next((index for index in range(TRIALS) if index not in taken), -1)

    def fork(self, kind: str, seat: tuple[int, int, int], settings: Settings, keys: Keys, child: Child) -> int:
        """Fork a worker, a trial or a mold; returns its pid.

        Args:
            kind: `worker`, `trial` or `mold`.
            seat: slot, generation and row.
            settings: its own.
            keys: where it listens.
            child: called there with its ticket, once what is another child's is closed.

        Raises:
            OSError: fork(2) failed, or no descriptor is free.
        """
        slot, generation, index = seat
        row = self._board.row(index)
        row.clear()
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(ours)
            with theirs:
                ours.setblocking(False)
                rights.refuse(ours)
                undo.callback(os.close, stacks := self.stacks.new())
                ticket = channel.Ticket(
                    slot=slot,
                    generation=generation,
                    settings=settings,
                    listeners={} if kind == "mold" else {name: self._listeners.of(one) for name, one in keys.items()},
                    channel=theirs,
                    board=self._board,
                    row=row,
                    trial=kind != "worker",
                    mold=kind == "mold",
                    stacks=stacks,
                )

                def in_child() -> NoReturn:
                    ours.close()
                    self._board.in_child(row)
                    self._close_all()
                    child(ticket)

                pid = processes.fork(in_child)
                undo.pop_all()  # after the fork nothing can fail that would have to be taken back
        self._add(pid, ours, stacks)
        if kind == "worker":
            self.rows[pid] = index
            row.take(pid, slot, generation)
        return pid

    def order(self, mold: int, seat: tuple[int, int, int], keys: Keys) -> None:
        """Have a mold fork a worker; what comes of it is `hear`d.

        Raises:
            OSError: it takes no order: it is gone, or no descriptor is free.
        """
        slot, generation, index = seat
        self._board.row(index).clear()
        groups = {name: [sock.fileno() for sock in self._listeners.of(one)] for name, one in keys.items()}
        order = channel.Fork(slot, index, {name: len(fds) for name, fds in groups.items()})
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(ours)
            with theirs:
                ours.setblocking(False)
                rights.know_senders(ours, on=True)
                rights.refuse(ours)
                undo.callback(os.close, stacks := self.stacks.new())
                given = [theirs.fileno(), stacks, self._board.fds[0], *(fd for fds in groups.values() for fd in fds)]
                rights.send(self.channels[mold], channel.encode(order), given)
                undo.pop_all()
        self.unborn.append(Birth(ours, stacks, index, slot, generation, mold, time.monotonic()))

    def hear(self, birth: Birth, reaped: Collection[int]) -> Event | None:
        """What has become of an order; None: nothing yet. `reaped`: children that were waited for in this turn."""
        try:
            packet, pid = rights.receive_from(birth.sock, channel.MAX_MESSAGE + 1)
        except BlockingIOError:
            if time.monotonic() - birth.at < BORN_WITHIN:
                return None
            packet, pid = b"", 0
            self._kill_unborn()
        except OSError:
            packet, pid = b"", 0
        self.unborn.remove(birth)
        reason = self._stillborn(packet, pid, reaped)
        if reason:
            birth.sock.close()
            os.close(birth.stacks)
            return events.SpawnFailed(birth.slot, birth.generation, reason, birth.mold)
        rights.know_senders(birth.sock, on=False)
        self._add(pid, birth.sock, birth.stacks)
        self.rows[pid] = birth.row
        self._board.row(birth.row).take(pid, birth.slot, birth.generation)
        took = time.monotonic() - birth.at
        return events.Spawned(pid, birth.slot, birth.generation, birth.row, birth.mold, took)

    def due(self) -> float | None:
        """When the oldest order is waited for no more, in monotonic seconds."""
        return min((birth.at + BORN_WITHIN for birth in self.unborn), default=None)

    def _kill_unborn(self) -> None:
        """End the children that are copies of a mold, and hang before they could say who they are."""
        for pid in processes.children():
            if pid not in self.channels and processes.name(pid).startswith("apid: mold"):
                processes.kill(pid, signal.SIGKILL)

    def _stillborn(self, packet: bytes, pid: int, reaped: Collection[int]) -> str:
        """Why this is no birth; empty where it is one."""
        if not packet:
            return "it ended before it could say who it is"
        try:
            message = channel.decode(packet, channel.Sender.NEWBORN)
        except channel.ChannelError as error:
            return str(error)
        if isinstance(message, channel.NotBorn):
            return message.reason
        if pid in self.channels or not (pid in reaped or processes.is_child(pid)):
            return f"process {pid}, which says that it is a worker, is no new child of this process"
        return ""

    def _add(self, pid: int, sock: socket.socket, stacks: int) -> None:
        self.channels[pid] = sock
        self.stacks.add(pid, stacks)

    def forget(self, pid: int) -> None:
        """Close what belonged to a child that is gone."""
        sock = self.channels.pop(pid, None)
        try:
            self.stacks.remove(pid)
        finally:
            if sock is not None:
                sock.close()

    def end(self) -> None:
        """Close what waits for workers that are not born yet: these end."""
        while self.unborn:
            birth = self.unborn.pop()
            birth.sock.close()
            os.close(birth.stacks)

    def _close_all(self) -> None:
        """In a fresh child: a sibling would keep a dead worker's channel open."""
        for sock in self.channels.values():
            sock.close()
        for fd in self.stacks.items().values():
            os.close(fd)
        for birth in self.unborn:
            birth.sock.close()
            os.close(birth.stacks)


Child = Callable[[channel.Ticket], NoReturn]
