"""Misbehaves while it is loaded, in the way that the file `how` names at that moment: `raise`, `hang`, `exit`,
`die` (an exit without a word), `segv`, `loop`.
With anything else in it, or no such file, it loads and answers. A test changes the file between two reloads.
The file `HOW.seen` beside it says that it has begun to.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys
import time


def factory(global_conf, how, **local_conf):
    path = pathlib.Path(how)
    way = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if way:
        path.with_name(f"{path.name}.seen").touch()
    if way == "raise":
        raise RuntimeError("this application does not want to be loaded")
    if way == "hang":
        time.sleep(3600)
    if way == "loop":
        while True:
            pass
    if way == "exit":
        sys.exit(7)
    if way == "die":
        os._exit(7)
    if way == "segv":
        ctypes.string_at(0)  # a real one: a signal that is sent could be blocked at this moment

    def app(environ, start_response):
        body = f"fine pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
