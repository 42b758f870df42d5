"""The stock server, as nova and glance started it: `python -m tests.bench.stock PORT APP [LOGFILE]`.

APP is `module:callable`, or `config:` and the path of a paste ini.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")


def main() -> None:
    """Serve until killed."""
    import eventlet

    eventlet.monkey_patch()
    import eventlet.wsgi

    module, _, name = sys.argv[2].partition(":")
    if module == "config":
        from paste.deploy import loadapp

        app = loadapp("config:" + str(pathlib.Path(name).resolve()))
    else:
        app = getattr(importlib.import_module(module), name)
    listener = eventlet.listen(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    log = open(sys.argv[3], "a", buffering=1, encoding="utf-8") if len(sys.argv) > 3 else None  # noqa: SIM115 - for as long as it serves
    eventlet.wsgi.server(listener, app, log=log, log_output=log is not None, debug=False)


if __name__ == "__main__":
    main()
