"""A real HAProxy on a free loopback port, with the configuration of docs/SCALING_OUT.md."""

from __future__ import annotations

import csv
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def documented(port: int, servers: list[int], control: pathlib.Path) -> str:
    """The document's configuration; only addresses differ."""
    text = (TOP / "docs" / "SCALING_OUT.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```haproxy\n(.*?)```", text, re.DOTALL)
    changes = {
        "0.0.0.0:80\n": f"127.0.0.1:{port}\n",
        "192.0.2.11:8080": f"127.0.0.1:{servers[0]}",
        "192.0.2.12:8080": f"127.0.0.1:{servers[1]}",
        "/run/haproxy/admin.sock": str(control),
    }
    for old, new in changes.items():
        assert old in block
        block = block.replace(old, new)
    return block


class HAProxy:
    """One HAProxy in front of two servers; `close` it when done."""

    def __init__(self, directory: pathlib.Path, servers: list[int]) -> None:
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            pytest.skip("HAProxy is not installed (Debian: haproxy)")
        self.address = ("127.0.0.1", free_port())
        self._control = directory / "haproxy.sock"
        file = directory / "haproxy.cfg"
        file.write_text(documented(self.address[1], servers, self._control), encoding="utf-8")
        self._log = open(directory / "haproxy.log", "wb")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen([program, "-db", "-f", file], stdout=self._log, stderr=self._log)

    def servers(self) -> dict[str, dict[str, str]]:
        """What HAProxy knows of each server: status, stot (sessions in all), ..."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self._control))
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == "apid" and row["svname"] != "BACKEND"}

    def wait_for(self, name: str, status: str) -> None:
        """Wait until a server is UP or DOWN."""

        def there() -> bool:
            try:
                return self.servers()[name]["status"] == status
            except (OSError, KeyError):
                return False

        wait_until(there, f"server {name} to be {status}", 20)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
