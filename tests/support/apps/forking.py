"""Forks in requests, in every way there is: /HOW. The child writes what it holds into `file`; /pid answers with the worker's pid.

/wait-HOW answers once the child has ended, with its exit status; /leave-HOW leaves a child that sleeps until it is ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import multiprocessing
import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading
import time

CONTEXT = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")


def look():
    """What this process holds: sockets, signal handlers, mask."""
    targets = []
    for fd in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            targets.append(str(fd.readlink()))
    return {
        "pid": os.getpid(),
        "sockets": [target for target in targets if target.startswith("socket:")],
        "events": [target for target in targets if target.startswith("anon_inode:[event")],
        "term": signal.getsignal(signal.SIGTERM),
        "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }


def note(file, seen=None, more=""):
    with open(file, "a") as output:
        output.write(json.dumps({**(seen or look()), "more": more}) + "\n")


def in_thread(function, *args):
    """Call it in a thread, under eventlet a green one, and return what it returns."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


def natively(function):
    """The same in a native thread, under eventlet one of its pool."""
    if "eventlet" in sys.modules:
        from apid.server.engines.eventlet.offload import offload

        return offload(function)
    return in_thread(function)


def work(file):
    """What a child does: sleeps, uses threads, and ends."""
    seen = look()
    time.sleep(0.05)
    note(file, seen, f"{in_thread(lambda: 'thread')} {natively(lambda: 'native')}")


def stay(file):
    note(file)
    time.sleep(300)


def _end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(file, then):
    pid = os.fork()
    if pid:
        return _end(pid)
    note(file)
    return then()


def _raise():
    raise RuntimeError("raised in the child")


class Answers(Exception):
    """Carries an answer out of a child."""


def _return():
    raise Answers


def process(file, target=work):
    one = CONTEXT.Process(target=target, args=(file,))
    one.start()
    one.join()
    return one.exitcode


def daemon(file):
    one = CONTEXT.Process(target=stay, args=(file,), daemon=True)
    one.start()
    return one.pid


def terminate(file):
    one = CONTEXT.Process(target=stay, args=(file,))
    one.start()
    one.terminate()  # at once: the child's first line may not have run
    one.join()
    return one.exitcode


def spawn(file):
    one = SPAWN.Process(target=note, args=(file,))
    one.start()
    one.join()
    return one.exitcode


def terminal(file):
    pid, fd = pty.fork()
    if pid == 0:
        note(file)
        os._exit(5)
    ended = _end(pid)
    os.close(fd)
    return ended


def native(file):
    """Fork in a native thread."""

    def forks():
        pid = os.fork()
        if pid == 0:
            note(file)
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return natively(forks)


def twice(file):
    """A child of a child."""
    pid = os.fork()
    if pid == 0:
        code = process(file)
        os._exit(40 + code)
    return _end(pid)


def thread(file):
    """Fork in a thread of the application's, under eventlet a green one, which returns."""
    return in_thread(_fork, file, int)


CODE = "import sys, os; print(sorted(os.listdir('/proc/self/fd')))"


def executor(file):
    """Under eventlet, what there is instead of multiprocessing's Pool."""
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        return sum(pool.map(abs, (-1, -2, -3)))


def command(file):
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, close_fds=False)
    return done.stdout.count("'")


def prepared(file):
    subprocess.run(["true"], check=True, preexec_fn=lambda: note(file))
    return 0


HOWS = {
    "return": lambda file: _fork(file, _return),
    "raise": lambda file: _fork(file, _raise),
    "missing": lambda file: _fork(file, pathlib.Path("/nowhere/missing in the child").stat),
    "exit": lambda file: _fork(file, lambda: sys.exit(3)),
    "_exit": lambda file: _fork(file, lambda: os._exit(4)),
    **{
        one.__name__: one
        for one in (
            process,
            daemon,
            terminate,
            spawn,
            terminal,
            native,
            twice,
            thread,
            executor,
            command,
            prepared,
        )
    },
}


async def coroutine():
    await asyncio.sleep(0.2)
    return "awaited"


def factory(global_conf, file, loads="", **local_conf):
    """`loads`: ways to fork while it loads; what came of them goes into the file `loaded` beside `file`."""
    for how in loads.split():
        ended = HOWS[how](file)
        with open(pathlib.Path(file).with_name("loaded"), "a") as output:
            output.write(f"{how} {ended}\n")

    def app(environ, start_response):
        how = environ["PATH_INFO"].strip("/")
        said = {"pid": os.getpid()}
        try:
            if how == "slow":
                time.sleep(2)
            elif how == "asyncio":
                run = (
                    functools.partial(environ["apid.offload"], asyncio.run)
                    if "apid.offload" in environ
                    else asyncio.run
                )
                said["ended"] = run(coroutine())
            elif how.startswith("stream-"):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return streams(file, how.removeprefix("stream-"), environ)
            elif how != "pid":
                said["ended"] = HOWS[how](file)
        except Answers:
            said["ended"] = "answered by the child"
        body = json.dumps(said).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def streams(file, how, environ):
    """Fork while an answer is under way."""
    yield f"{os.getpid()} begins\n".encode()
    try:
        ended = HOWS[how](file)
    except Answers:
        ended = "answered by the child"
    yield f"{os.getpid()} ended {ended}\n".encode()
