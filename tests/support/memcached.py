"""A real memcached on a free loopback port."""

from __future__ import annotations

import getpass
import socket
import subprocess

from tests.support.processes import wait_until


class Memcached:
    """One server; `kill` it when done."""

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.process = subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-u", getpass.getuser()])
        wait_until(self.answers, "memcached to answer", 10)

    def answers(self) -> bool:
        """Whether it answers the command `version`."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.sendall(b"version\r\n")
                return sock.recv(100).startswith(b"VERSION")
        except OSError:
            return False

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()
