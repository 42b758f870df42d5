"""A PostgreSQL server of the test's own, on a UNIX socket in a directory of its own; Debian's package, or a skip."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest


class Postgres:
    """One server."""

    def __init__(self) -> None:
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
        self._bin = found[-1]
        # initdb refuses root, and pytest's directories are root's own
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="apid-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._as = ["runuser", "-u", "postgres", "--"]
        self.directory.chmod(0o755)
        self._run("initdb", "-D", f"{self.directory}/data", "-A", "trust", "-U", "apid", "--no-sync")
        self._databases = 0
        self.start()

    def database(self) -> str:
        """Make a new, empty database; returns its address as [database] connection takes it."""
        self._databases += 1
        name = f"zoo{self._databases}"
        self._run("createdb", "-h", str(self.directory), "-U", "apid", name)
        return f"postgresql+psycopg://apid:secret@/{name}?host={self.directory}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it and wait until it serves."""
        options = f"-k {self.directory} -c listen_addresses='' -c max_connections=200 -c fsync=off"
        self._run("pg_ctl", "-D", f"{self.directory}/data", "-o", options, "-l", f"{self.directory}/log", "-w", "start")

    def stop(self) -> None:
        """Stop it at once, connections and all."""
        self._run("pg_ctl", "-D", f"{self.directory}/data", "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        """Stop it, and remove everything."""
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
