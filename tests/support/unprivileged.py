"""Programs of root that become another user, also where the interpreter lies in a home directory that only root may enter.

In a mount namespace of its own (unshare(1)) such a home directory holds nothing but the interpreter, and everybody may enter it.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from tempfile import mkdtemp

import pytest

USER = "nobody"
SHOWING = (
    'at=$(mktemp -d) && mount --bind "$1" "$at" && mount -t tmpfs -o mode=755 tmpfs "$2" && mkdir -p "$1" && '
    'mount --bind "$at" "$1" && umount "$at" && rmdir "$at" && shift 2 && exec "$@"'
)


def prefix() -> list[str]:
    """Return the beginning of a command whose interpreter USER can load; skip the test where there is no such command."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    interpreter = pathlib.Path(sys.base_prefix).resolve()
    closed = [path for path in reversed(interpreter.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return []
    command = ["unshare", "-m", "sh", "-c", SHOWING, "sh", str(interpreter), str(closed[0])]
    if (
        not shutil.which("unshare")
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("no mount namespaces here, and the interpreter lies where only root may enter")
    return command


def open_directory() -> Iterator[pathlib.Path]:
    """Yield a directory that everybody may enter, as those of pytest are not; the body of a fixture."""
    path = pathlib.Path(mkdtemp(prefix="apid-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def ids() -> tuple[int, int]:
    """Return uid and gid of USER."""
    found = pwd.getpwnam(USER)
    return found.pw_uid, found.pw_gid
