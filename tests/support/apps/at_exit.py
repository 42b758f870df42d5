"""Does what is registered for the end of the process, with one habit each (option `habits`), and notes in `file` what it did.

spans: OpenTelemetry's batch processor, one span a request, written by its exporter · finish: an executor with a job that takes a
moment · slow: takes seconds at the end · temporary: a directory that is removed · child: a daemon of multiprocessing · logs: a
line of its own at the end.
What never ends: green, native, gil (functions of atexit), thread (no daemon), job (of an executor). Option `fail_at`: the load of
this number, counted in `file`, fails after a while.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import multiprocessing
import os
import pathlib
import re
import tempfile
import threading
import time

from tests.support.apps import original

LOG = logging.getLogger(__name__)


def write(file, what):
    with open(file, "a") as output:
        output.write(f"{what}\n")


def spans(file):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        def export(self, spans):
            time.sleep(0.1)
            for span in spans:
                write(file, span.name)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Exporter(), max_export_batch_size=7))
    return provider.get_tracer("at_exit")


def finish(file):
    pool = concurrent.futures.ThreadPoolExecutor(1)

    def job():
        pool.submit(lambda: (time.sleep(0.3), write(file, "finished")))

    return job


def slow(file):
    atexit.register(lambda: (time.sleep(3), write(file, "slowly")))


def temporary(file):
    return tempfile.TemporaryDirectory(dir=pathlib.Path(file).parent, prefix="temporary")


def child(file):
    one = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,), daemon=True)
    one.start()
    return one


def logs(file):
    atexit.register(LOG.warning, "the application's last line")


def hang_in_the_hub():
    time.sleep(300)


def hang_natively():
    original("time").sleep(300)


def hang_with_the_gil():
    re.fullmatch("(a*)*b", "a" * 64)


def green(file):
    atexit.register(hang_in_the_hub)


def native(file):
    atexit.register(hang_natively)


def gil(file):
    atexit.register(hang_with_the_gil)


def thread(file):
    threading.Thread(target=hang_in_the_hub, name="endless").start()


def job(file):
    concurrent.futures.ThreadPoolExecutor(1).submit(hang_in_the_hub)


HABITS = {one.__name__: one for one in (spans, finish, slow, temporary, child, logs, green, native, gil, thread, job)}


def factory(global_conf, file, habits="", fail_at="0", **local_conf):
    write(file, f"loaded {os.getpid()}")
    loads = [line for line in pathlib.Path(file).read_text().splitlines() if line.startswith("loaded")]
    number = len(loads) - loads[::-1].index(f"loaded {os.getpid()}")  # another process may have added a line since
    if number == int(fail_at):
        time.sleep(1)
        raise RuntimeError("fails this time")
    atexit.register(lambda: write(file, f"ended {os.getpid()}"))
    have = {name: HABITS[name](file) for name in habits.split()}

    def app(environ, start_response):
        if "spans" in have:
            with have["spans"].start_as_current_span(f"span {environ['QUERY_STRING']}"):
                pass
        if environ["PATH_INFO"] == "/job":
            have["finish"]()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    return app
