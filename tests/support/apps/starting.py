"""Starts, while it loads, a process and a native thread, and notes what signals these and it itself block or ignore.

Options: `file`, to which a line is added at each load; `wait`, a path: it loads on once that exists.
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time

from tests.support.apps import original


def _masks(status):
    return " ".join(line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn")))


def _own(thread):
    thread.append(_masks(pathlib.Path("/proc/thread-self/status").read_text()).split(" SigIgn")[0])


def factory(global_conf, file, wait=None, **local_conf):
    child = subprocess.Popen(["sleep", "300"])
    child.terminate()
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    masks = []
    _own(masks)
    thread = original("threading").Thread(target=_own, args=(masks,))
    thread.start()
    thread.join()
    blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    with open(file, "a") as output:
        output.write(f"child {_masks(status)}; ended {child.wait(10)}; threads {masks}; blocked {blocked}\n")
    while wait is not None and not pathlib.Path(wait).exists():
        time.sleep(0.01)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    return app
