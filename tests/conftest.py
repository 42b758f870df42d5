"""For all tests: no process, socket or file is left behind, and orphans are seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import hypothesis
import pytest

from apid.scoreboard import Scoreboard
from tests.support import processes

processes.become_subreaper()

# A shell starts background jobs with SIGINT ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis' deadline of 200 ms an example is a timed assertion, which fails on a busy machine.
hypothesis.settings.register_profile("apid", deadline=None)
hypothesis.settings.load_profile("apid")


def pytest_addoption(parser):
    """See `.ci/run`."""
    parser.addoption(
        "--second-try",
        action="store_true",
        help="run only the tests marked `timing` that failed in the last run; exit with 1 if any other test failed",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With --second-try, select the tests marked `timing` that failed in the last run; exit if any other test failed."""
    if not config.getoption("--second-try"):
        return
    failed = set(config.cache.get("cache/lastfailed", {}))
    again = [item for item in items if item.nodeid in failed]
    final = [item.nodeid for item in again if item.get_closest_marker("timing") is None]
    if final:
        pytest.exit(f"no second try: failed and not marked `timing`: {', '.join(final)}", returncode=1)
    if not again:
        pytest.exit("no second try: the failure was not in a test", returncode=1)
    config.hook.pytest_deselected(items=[item for item in items if item not in again])
    items[:] = again


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Escape lone surrogates in captured output: some tests log file names that are not UTF-8, and xdist cannot send them."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


LASTING = ("anon_inode:[eventpoll]", "/dev/urandom", "/dev/null")
"""Descriptors that a library opens once for the life of the process (the hub of eventlet)."""


def _new_children(before: set[int]) -> set[int]:
    """Children that were not there before and live; those that ended are reaped."""
    new = set()
    for pid in processes.children() - before:
        if processes.alive(pid):
            new.add(pid)
        else:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
    return new


def _new_descriptors(before: dict[int, str]) -> dict[int, str]:
    now = processes.descriptors()
    new = {fd: name for fd, name in now.items() if before.get(fd) != name}
    return {fd: name for fd, name in new.items() if not name.startswith(LASTING) and not name.endswith("/fd")}


@pytest.fixture(autouse=True)
def nothing_left():
    """Fail a test after which a child, a socket or another descriptor is left; kill what it left."""
    children, descriptors = processes.children(), processes.descriptors()
    yield
    deadline = time.monotonic() + 1.0  # for those that are about to leave
    while _new_children(children) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = {pid: processes.command(pid) for pid in _new_children(children)}
    for pid in left:
        processes.end(pid)
    fds = _new_descriptors(descriptors)
    assert not left, f"processes left: {left}"
    assert not fds, f"descriptors left: {fds}"


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    """Applications that are loaded in this process, and daemons that tests start, keep no database of the developer's."""
    kept = os.environ.get("OS_DATABASE__CONNECTION")
    os.environ["OS_DATABASE__CONNECTION"] = f"sqlite:///{tmp_path_factory.mktemp('state')}/apid.sqlite"
    yield
    if kept is None:
        del os.environ["OS_DATABASE__CONNECTION"]
    else:
        os.environ["OS_DATABASE__CONNECTION"] = kept


@pytest.fixture(autouse=True)
def database_closed(nothing_left):
    """Close the connections of the default API, which a worker keeps for its life."""
    yield
    loaded = sys.modules.get("apid.api.db.connection")
    if loaded is not None and loaded.shared.cache_info().currsize:
        loaded.shared(os.environ["OS_DATABASE__CONNECTION"], 10).dispose()


@pytest.fixture
def board():
    """A scoreboard of the test's own."""
    made = Scoreboard.create()
    yield made
    for fd in made.fds:
        if fd >= 0:
            os.close(fd)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Paths of a self-signed certificate for localhost and of its key."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
