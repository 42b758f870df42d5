"""Does in a request what the standard library offers; /NAME, and the answer is its result as JSON, with the worker's pid.

`processes` in the query: how many. What ends the process, or raises, gives no result.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import json
import logging
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time

LOG = logging.getLogger("app")


class Odd(BaseException):
    """Neither an Exception nor one of Python's."""


async def _meet():
    async def one(number):
        await asyncio.sleep(0.01)
        return number

    return sum(await asyncio.gather(*map(one, range(10))))


def asyncio_run():
    return asyncio.run(_meet())


def threads():
    """Threads of its own, each of which logs under the request's id."""
    found: queue.Queue[int] = queue.Queue()

    def work(number):
        LOG.info("in a thread")
        found.put(number)

    contexts = [contextvars.copy_context() for _ in range(10)]
    made = [threading.Thread(target=context.run, args=(work, number)) for number, context in enumerate(contexts)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    return sum(found.get() for _ in made)


def pool():
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        return sum(executor.map(lambda number: time.sleep(0.005) or number, range(10)))


def command():
    done = subprocess.run([sys.executable, "-c", "print(45)"], capture_output=True, text=True, check=True, timeout=30)
    return int(done.stdout)


def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(45)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _process(method):
    one = multiprocessing.get_context(method).Process(target=sys.exit, args=(45,))
    one.start()
    one.join(60)
    return one.exitcode


def processes():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return sum(executor.map(abs, range(10)))


def handler():
    try:
        signal.signal(signal.SIGUSR1, lambda *_: None)
    except ValueError as error:
        return str(error)
    return "set"


def raises():
    raise Odd("as it wished")


def interrupts():
    raise KeyboardInterrupt


def generator_exit():
    raise GeneratorExit


THINGS = {
    one.__name__: one
    for one in (asyncio_run, threads, pool, command, fork, processes, handler, raises, interrupts, generator_exit)
} | {
    "forked": lambda: _process("fork"),
    "spawned": lambda: _process("spawn"),
    "exit": lambda: sys.exit(3),
    "_exit": lambda: os._exit(3),
    "nothing": lambda: 45,
}


def factory(global_conf, **local_conf):
    LOG.setLevel(logging.INFO)

    def app(environ, start_response):
        result = THINGS[environ["PATH_INFO"].strip("/")]()
        body = json.dumps({"pid": os.getpid(), "result": result, "id": environ["apid.request_id"]}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
