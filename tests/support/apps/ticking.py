"""Starts a timer of SIGALRM; GET / answers with the number of signals that its handler has received.

Options: `handler`: `own` installs a handler; `none` does not.
"""

from __future__ import annotations

import signal

EVERY = 0.05


def factory(global_conf, handler="own", **local_conf):
    ticks = []

    def tick(signum, frame):
        ticks.append(signum)

    if handler == "own":
        signal.signal(signal.SIGALRM, tick)
        signal.signal(signal.SIGCHLD, tick)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(len(ticks)).encode()]

    return app
