"""Dropping capabilities where a filter of system calls ends the process that tries, as a unit of systemd may do."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys

import pytest

CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine())
UNDER_A_FILTER = """
import ctypes, os, struct, sys
from apid.posix import privileges
libc = ctypes.CDLL(None)
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7FFF0000)]  # seccomp(2)
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
if os.geteuid() == 0:
    os.setresuid(54321, 54321, 54321)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
filtered = struct.pack("@HP", len(rules), ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.c_char_p(filtered), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
if sys.argv[2] == "capset":
    libc.capset(None, None)
privileges.drop_capabilities()
"""


@pytest.mark.skipif(CAPSET is None, reason="the number of the system call is not known here")
@pytest.mark.parametrize(("call", "code"), [("nothing", 0), ("capset", -signal.SIGSYS)])
def test_a_process_without_capabilities_does_not_try_to_drop_them(call, code):
    """The second case shows that the filter is there."""
    command = [sys.executable, "-c", UNDER_A_FILTER, str(CAPSET), call]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
