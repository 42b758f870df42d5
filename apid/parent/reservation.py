"""What a generation takes from the machine before it is the one: sockets, the control socket, the pid file.

A start takes them and keeps them. A change takes what is new beside what is in use, and commits or releases it. Nothing that is
in use is touched before the commit. What can fail before the commit is done before it; the commit collects what fails in its
steps.
"""

from __future__ import annotations

import contextlib
import dataclasses

from apid.conf.settings import Daemon, Settings
from apid.parent.control import Control
from apid.parent.listeners import Listeners, Places
from apid.posix.pidfile import PidFile


@dataclasses.dataclass(slots=True)
class Holdings:
    """The control socket and the pid file that are in use."""

    control: Control | None = None
    pid_file: PidFile | None = None

    def in_child(self) -> None:
        """Close the control socket in a fresh child; its files are the parent's. A fork closes lock files by itself."""
        if self.control is not None:
            self.control.end(unlink=False)

    def end(self) -> None:
        """Close everything and remove the files; a failure of one does not keep the other."""
        with contextlib.ExitStack() as both:
            if self.control is not None:
                both.callback(self.control.end, unlink=True)
            if self.pid_file is not None:
                both.callback(self.pid_file.remove)


@dataclasses.dataclass(slots=True)
class Reservation:
    """What one generation has taken: see the module.

    Attributes:
        places: where it listens. new: keys of the sockets that were bound for it.
        fresh: control socket and pid file that were made for it; None: those in use are the right ones, or none is wanted.
    """

    places: Places
    new: list[str]
    fresh: Holdings

    @classmethod
    def take(cls, settings: Settings, listeners: Listeners, used: Holdings) -> Reservation:
        """Bind and make what `settings` wants and `used` does not have, or has no longer: a file that was removed.

        Raises:
            ApidError: an address, the control socket or the pid file cannot be had; nothing is taken then.
        """
        places, new = listeners.bind(settings)
        reserved = cls(places, new, Holdings())
        try:
            path = settings.daemon.control_socket
            if path and (used.control is None or not used.control.is_at(path)):
                reserved.fresh.control = Control(path)
            path = settings.daemon.pid_file
            if path and (used.pid_file is None or not used.pid_file.is_at(path)):
                reserved.fresh.pid_file = PidFile(path)
        except BaseException:
            reserved.release(listeners)
            raise
        return reserved

    def release(self, listeners: Listeners) -> None:
        """Give back what was taken."""
        with contextlib.ExitStack() as both:
            both.callback(listeners.close, self.new)
            both.callback(self.fresh.end)

    def commit_control(self, daemon: Daemon, used: Holdings) -> None:
        """Replace the control socket by the new one, or end one that is no longer wanted."""
        control = self.fresh.control
        if control is not None:
            former, used.control = used.control, control
            if former is not None:
                control.succeed(former)
        elif used.control is not None and not daemon.control_socket:
            used.control.stop_listening()  # who asked for this waits for the verdict

    def commit_pid_file(self, daemon: Daemon, used: Holdings) -> None:
        """Replace the pid file by the new one, or remove one that is no longer wanted."""
        pid_file = self.fresh.pid_file
        if used.pid_file is not None and (pid_file is not None or not daemon.pid_file):
            former, used.pid_file = used.pid_file, pid_file
            former.remove()
        used.pid_file = pid_file or used.pid_file
        if used.pid_file is not None and daemon.pid_file:
            used.pid_file.path = daemon.pid_file  # perhaps another name of the same file: /var/run and /run
            used.pid_file.write()
