"""`apidctl top` on a real pseudo terminal, looked at through a terminal emulator, and the terminal afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pyte
import pytest

from tests.support.client import Connection
from tests.support.daemon import CONTROL
from tests.support.processes import wait_until

SLOW = "[app:main]\npaste.app_factory = tests.support.apps.slow:factory\n"


class Terminal:
    """An 80x24 terminal in which apidctl top runs."""

    def __init__(self, daemon, *arguments):
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        self.process = subprocess.Popen(
            [str(CONTROL), "--socket", str(daemon.control), "top", "--interval", "0.2", *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def read(self):
        while select.select([self._ours], [], [], 0)[0]:
            data = os.read(self._ours, 65536)
            self.raw += data
            # the screen of an application that has the alternate one: pyte has only one, and no such mode
            self._stream.feed(data)

    def text(self):
        self.read()
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait(self, pattern):
        return wait_until(lambda: re.search(pattern, self.text(), re.MULTILINE), f"{pattern} in:\n{self.text()}", 30)

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def end(self):
        """Wait for the end, and see that the terminal is as it was."""
        self.process.wait(30)
        self.read()
        assert termios.tcgetattr(self._theirs) == self.before
        assert b"\x1b[?1049h" in self.raw
        assert self.raw.rindex(b"\x1b[?1049l") > self.raw.rindex(b"\x1b[?1049h")  # so is what stood there before
        assert self.raw.rindex(b"\x1b[?25h") > self.raw.rindex(b"\x1b[?25l")  # the cursor is back
        return self.process.returncode


@pytest.fixture
def running(daemon):
    return daemon(paste=SLOW, workers=2).start()


def test_workers_requests_sorting_and_the_end(running):
    with Terminal(running) as terminal:
        terminal.wait(r"^ *SLOT.*STATE.*REQ/S")
        for pid in running.worker_pids():
            terminal.wait(rf"\b{pid}\b.*ready")
        assert terminal.text().splitlines()[0].startswith("apid ")
        with Connection(running.address) as one:
            one.send(b"GET /reports?s=2 HTTP/1.1\r\nHost: a\r\n\r\n")
            terminal.press("r")
            terminal.wait(r"^ *\d\S* +[01] +1  GET /reports\?s=2 HTTP/1.1")
            one.answer()
        terminal.wait("no request is in flight")
        terminal.press("r>>")
        terminal.wait(r"GENv|GEN\^")
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.slow
def test_a_slot_of_native_threads_that_is_stuck(daemon):
    one = daemon(paste=SLOW, workers=1, engine="threads", request_timeout=0.2).start()
    one.allow("answered, but not ended, by request_timeout")
    with Terminal(one) as terminal:
        terminal.wait(r"^engine threads  native threads \d+  GIL wait \S+$")
        with Connection(one.address) as connection:
            assert connection.request("GET", "/reports?s=4").status == 503
        terminal.wait(r"^engine threads .* 1 slot stuck$")
        terminal.wait(r"^ *SLOT.* BUSY +STUCK +OLDEST")
        terminal.press("r")
        terminal.wait(r"^ *\d\S* +0 +1  stuck: GET /reports\?s=4 HTTP/1.1")
        terminal.press("q")
        assert terminal.end() == 0


def test_a_reload_is_seen_and_a_daemon_that_ends_is_told(running):
    with Terminal(running) as terminal:
        terminal.wait("generation 1: 2 of 2")
        running.apidctl("reload")
        terminal.wait(r"last reload ok")
        running.stop()
        terminal.wait("cannot talk to a daemon")
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_gives_the_terminal_back_too(running, number, code):
    with Terminal(running) as terminal:
        terminal.wait("SLOT")
        terminal.process.send_signal(number)
        assert terminal.end() == code


def test_other_sizes(running):
    with Terminal(running) as terminal:
        terminal.wait("SLOT")
        # the previous screen can match as well, so each step waits for what only its own size shows
        for columns, lines, whole in ((20, 5, False), (200, 50, True), (80, 24, False), (200, 50, True)):
            terminal.resize(columns, lines)
            wait_until(lambda whole=whole: ("LAST END" in terminal.text()) is whole, f"{columns} columns are drawn", 30)
            terminal.wait(r"^q quit")
        terminal.press("q")
        assert terminal.end() == 0


def test_without_a_terminal_it_says_what_is_for_programs(running):
    done = running.apidctl("top", check=False)
    assert done.returncode != 0
    assert "top needs a terminal" in done.stderr
    assert done.stdout == ""


def test_without_a_daemon_the_terminal_is_not_touched(running):
    running.stop()
    with Terminal(running) as terminal:
        terminal.process.wait(30)
        assert terminal.process.returncode == 1
        assert "cannot talk to a daemon" in terminal.text()
        assert b"\x1b[?1049h" not in terminal.raw
