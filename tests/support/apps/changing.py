"""Changes what the whole process shares: while it loads (option `changes`, names separated by blanks) or on request (/NAME).

/ answers with the pid. /slow takes two seconds, /offload works in a native thread, /hang blocks its native thread, /echo takes
the socket over. /close?WHAT closes descriptors that are not the application's.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import json
import locale
import os
import pathlib
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings

from tests.support.apps import original

pause, block = time.sleep, original("time").sleep  # before they are replaced here


def _raise(*_):
    raise RuntimeError("raised by a handler of the application")


def signals_default():
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)


def signals_taken():
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR2):
        signal.signal(signum, lambda *_: None)


def signal_raises():
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def mask():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def wakeup():
    signal.set_wakeup_fd(-1)


def alarm():
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def default_timeout():
    socket.setdefaulttimeout(1)


def socket_class():
    class Broken:
        def __init__(self, *_args, **_kwargs):
            raise OSError("no socket of the application's is to be used")

    socket.socket = Broken


def streams():
    sys.stdin = sys.stdout = sys.stderr = None


def streams_closed():
    sys.stdout.close()
    sys.stderr.close()


def directory():
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    pathlib.Path(gone).rmdir()


def umask():
    os.umask(0o777)


def language():
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        break


def hub():
    import eventlet
    from eventlet import hubs

    hubs.use_hub()
    hubs.use_hub("poll")
    eventlet.monkey_patch()


def limits():
    sys.setswitchinterval(100)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def recursion():
    sys.setrecursionlimit(120)


def warnings_errors():
    warnings.simplefilter("error")


def collector():
    gc.disable()
    gc.freeze()


def hooks():
    sys.excepthook = threading.excepthook = sys.unraisablehook = _raise


def dumps():
    faulthandler.disable()
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.cancel_dump_traceback_later()


def environment():
    os.environ.clear()


def group():
    if os.getpgrp() != os.getpid():
        os.setsid()


def seed():
    random.seed(1)


def sleep():
    time.sleep = _raise


CHANGES = {
    one.__name__: one
    for one in (
        signals_default, signals_taken, mask, wakeup, default_timeout, socket_class, streams,
        streams_closed, directory, umask, language, hub, limits, recursion, warnings_errors, collector, hooks, dumps,
        environment, group, seed, sleep, alarm, signal_raises,
    )
}  # fmt: skip


def close(what):
    """Close a descriptor of the worker's, found by what it refers to; `all`: every one from 3 on."""
    if what == "all":
        os.closerange(3, 1000)
        return
    for fd in range(3, 100):
        try:
            target = str(pathlib.Path(f"/proc/self/fd/{fd}").readlink())
            kind = ""
            if target.startswith("socket:"):
                with socket.socket(fileno=os.dup(fd)) as sock:
                    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    kind = "listener" if listens else "channel" if sock.type == socket.SOCK_SEQPACKET else ""
            elif target.startswith("pipe:") and fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == 1024 * 1024:
                kind = "signals"
            elif target == "anon_inode:[eventpoll]":
                kind = "epoll"
        except OSError:
            continue
        if kind == what:
            os.close(fd)


def factory(global_conf, changes="", **local_conf):
    for name in changes.split():
        if name.startswith("close-"):
            close(name.removeprefix("close-"))
        else:
            CHANGES[name]()

    def app(environ, start_response):
        path = environ["PATH_INFO"].strip("/")
        said = {"pid": os.getpid()}
        if path == "slow":
            pause(2)
        elif path == "offload":
            call = environ.get("apid.offload", lambda function: function())
            said["offload"] = call(lambda: block(0.05) or "done")
        elif path == "hang":
            block(60)
        elif path == "echo":
            sock = environ["eventlet.input"].get_socket() if "eventlet.input" in environ else environ["werkzeug.socket"]
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            sock.sendall(sock.recv(100))
            return []
        elif path == "close":
            close(environ["QUERY_STRING"])
        elif path:
            CHANGES[path]()
        body = json.dumps(said).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
