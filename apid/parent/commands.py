"""The control socket's side of the loop: polls the socket and its clients, and turns what they ask into events.

What a client may send and hold is control.py's; what a command means is decided by the plan.
"""

from __future__ import annotations

import selectors
import socket
import time

from apid.loggers import logger
from apid.parent import events, faults, report
from apid.parent.control import ACCEPTS_A_TURN, Client, Control, Request
from apid.parent.effects import Effects
from apid.parent.events import Event
from apid.parent.phases import Command
from apid.parent.state import State

LOG = logger("apid.parent")

SERVER = "control"
"""What the selector holds for the listening socket; for a connection it holds the `Client`."""


class Commands:
    """Registers the control socket with the loop's selector, whichever one the daemon has at the moment."""

    def __init__(self, selector: selectors.BaseSelector, effects: Effects) -> None:
        self._selector = selector
        self._effects = effects
        self._server: socket.socket | None = None
        self._interest: dict[int, tuple[socket.socket, int]] = {}

    @property
    def _control(self) -> Control | None:
        return self._effects.holdings.control

    def due(self) -> float | None:
        """When a client or an accept has a deadline, in monotonic seconds."""
        return self._control.due() if self._control is not None else None

    # ---- what happens on its descriptors ----

    def handle(self, data: object, mask: int) -> None:
        """Read from, write to or accept what the selector found ready: `data` is SERVER or a Client."""
        control = self._control
        if control is None:
            return
        if not isinstance(data, Client):
            self._accept(control)
            return
        try:
            if mask & selectors.EVENT_WRITE:
                control.flush(data)
            if mask & selectors.EVENT_READ:
                control.read(data)
        except Exception:
            control.close(data)  # or it stays readable; that its connection ends is what it hears
            raise

    @staticmethod
    def _accept(control: Control) -> None:
        for _ in range(ACCEPTS_A_TURN):
            client = control.accept(time.monotonic())
            if client is None:
                break
            control.read(client)

    def take(self, state: State) -> list[Event]:
        """The commands of this turn; `status` is answered at once."""
        control = self._control
        if control is None:
            return []
        control.tick(time.monotonic())
        return [event for request in control.requests() if (event := self._event(control, request, state))]

    def _event(self, control: Control, request: Request, state: State) -> Event | None:
        if request.command == "status":
            try:
                data = report.status(state, self._effects, time.monotonic(), max(0, request.number))
            except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked gets an answer
                self._effects.faults.note("the status", error)
                control.reply(request.who, False, f"a fault of apid: {faults.describe(error)}")
                return None
            control.reply(request.who, True, data["line"], data)
            return None
        try:
            command = Command(request.command)
        except ValueError:
            known = ", ".join(sorted([*Command, "status"]))
            control.reply(request.who, False, f"there is no command {request.command!r}; there are: {known}")
            return None
        LOG.info("apidctl: %s%s", command, f" {request.number}" if command is Command.SCALE else "")
        return events.Asked(command, request.who, request.number)

    # ---- what is polled ----

    def sync(self) -> None:
        """Poll exactly the control socket and the clients that there are."""
        control = self._control
        self._sync_server(control.server if control and control.accepting(time.monotonic()) else None)
        wanted = {c.number: (c, control.interest(c)) for c in control.clients()} if control else {}
        for number, (sock, _) in list(self._interest.items()):
            if number not in wanted:
                forget(self._selector, sock)
                del self._interest[number]
        for number, (client, interest) in wanted.items():
            sock, before = self._interest.get(number, (client.sock, 0))
            if control and client.done:
                forget(self._selector, sock) if before else None
                control.close(client)
                self._interest.pop(number, None)
                continue
            if interest == before:
                continue
            if before and interest:
                self._selector.modify(sock, interest, client)
            elif interest:
                self._selector.register(sock, interest, client)
            else:
                forget(self._selector, sock)
            self._interest[number] = (sock, interest)

    def _sync_server(self, server: socket.socket | None) -> None:
        if server is self._server:
            return
        if self._server is not None:
            forget(self._selector, self._server)
        if server is not None:
            self._selector.register(server, selectors.EVENT_READ, SERVER)
        self._server = server


def forget(selector: selectors.BaseSelector, sock: socket.socket) -> None:
    """Stop polling a socket that may be closed already (the selector finds it by object then)."""
    try:
        selector.unregister(sock)
    except (KeyError, ValueError):
        return
