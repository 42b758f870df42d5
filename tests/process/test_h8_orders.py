"""H8: whatever the application has done to the process, the parent gets an answer to each of its orders."""

from __future__ import annotations

APPLICATION = """
import gc, logging

def factory(global_conf, what):
    if what == "objects":
        gc.get_objects = None
    else:
        logging._lock.acquire()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return app
"""


def serve(daemon, what):
    one = daemon(paste=f"[app:main]\npaste.app_factory = spoiling:factory\nwhat = {what}\n", workers=1)
    (one.directory / "spoiling.py").write_text(APPLICATION)
    return one.start()


def test_h8_a_dump_that_fails_is_answered(daemon):
    one = serve(daemon, "objects")
    one.allow("the stacks cannot be collected", "Traceback", "TypeError")
    answer = one.apidctl("dump", check=False)
    assert answer.returncode == 1
    assert "worker 0: TypeError: 'NoneType' object is not callable" in answer.stderr
    one.wait_for_log("the stacks cannot be collected")
    one.apidctl("reload")
    assert one.stop() == 0


def test_h8_the_application_keeps_the_lock_of_logging(daemon):
    one = serve(daemon, "lock")
    for order in ("dump", "reopen", "reload", "dump"):
        one.apidctl(order)
    assert one.log().count("green threads") == 2
    assert one.stop() == 0
