"""Logs from native threads and from requests at once, through the daemon's handler and through handlers of its own.

`/start` starts the threads, `/wait` answers when they have logged all their lines, `/log/WORD` logs three lines.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from tests.support.apps import original

threading = original("threading")

LOG = logging.getLogger("app")


class Slow(logging.Handler):
    """A handler that waits cooperatively in the middle of a record, as one that sends over TCP does."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - as long as the process

    def emit(self, record: logging.LogRecord) -> None:
        self.file.write("<" + record.getMessage())
        if record.getMessage().startswith("request"):
            time.sleep(0.001)
        self.file.write(">\n")
        self.file.flush()


def elsewhere(function, *args):
    """Call it in a native thread, one of eventlet's pool where there is one, and wait for it."""
    if "eventlet" in sys.modules:
        from eventlet import tpool

        tpool.execute(function, *args)
        return
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def chatter(number: int, lines: int) -> None:
    for line in range(lines):
        LOG.info("thread %d line %d %s", number, line, "x" * 100)


def factory(global_conf, directory, threads, lines):
    LOG.addHandler(logging.FileHandler(os.path.join(directory, "own.log")))
    LOG.addHandler(Slow(os.path.join(directory, "slow.log")))
    LOG.setLevel(logging.INFO)
    started = [threading.Thread(target=chatter, args=(number, int(lines))) for number in range(int(threads))]

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/start":
            for thread in started:
                thread.start()
        elif path == "/wait":
            while any(thread.is_alive() for thread in started):
                time.sleep(0.01)
        else:
            word = path.rpartition("/")[2]
            LOG.info("request %s begins", word)
            elsewhere(LOG.info, "request %s offloads", word)
            LOG.info("request %s ends", word)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return app
