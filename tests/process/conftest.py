"""Tests here start the real daemon. Its log is shown when a test fails, and must be free of undeclared trouble when it passes."""

from __future__ import annotations

import pytest

from tests.support.apps import pipeline
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.preloaded import APPLICATION, PASTE

DAEMONS = pytest.StashKey[list[Daemon]]()


@pytest.fixture
def say(request):
    """A function that puts a line of measured figures into the summary at the end of the run."""
    return lambda text: request.node.user_properties.append(("figures", f"{request.node.name}: {text}"))


def pytest_terminal_summary(terminalreporter):
    """Print what was said, in whichever process."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    for report in reports:
        for name, line in report.user_properties if report.when == "call" else []:
            if name == "figures":
                terminalreporter.ensure_newline()
                terminalreporter.write_line(f"FIGURES {line}")


def pytest_generate_tests(metafunc):
    """Run what is marked `both_engines` once with each; with slow=True, threads only where slow tests run.

    What is marked `also_without_preload` runs once more with preload = off, where slow tests run.
    """
    mark = metafunc.definition.get_closest_marker("both_engines")
    if mark is not None:
        marks = [pytest.mark.slow] if mark.kwargs.get("slow") else []
        metafunc.parametrize("engine", ["eventlet", pytest.param("threads", marks=marks)], indirect=True)
    if metafunc.definition.get_closest_marker("also_without_preload") is not None:
        metafunc.parametrize("preload", ["auto", pytest.param("off", marks=[pytest.mark.slow])], indirect=True)


@pytest.fixture
def engine(request):
    """The engine of the daemons of this test, by name; without the mark `both_engines` the default, eventlet."""
    return getattr(request, "param", "eventlet")


@pytest.fixture
def preload(request):
    """The option `preload` of the daemons of this test; without the mark `also_without_preload` the default, auto."""
    return getattr(request, "param", "auto")


@pytest.fixture
def daemon(request, tmp_path, engine, preload):
    """A function that makes a `Daemon` (not yet started) in a directory of its own; ended and judged after the test."""
    chosen = ({} if engine == "eventlet" else {"engine": engine}) | ({} if preload == "auto" else {"preload": preload})
    made: list[Daemon] = []
    request.node.stash[DAEMONS] = made

    def make(**options) -> Daemon:
        directory = tmp_path / f"d{len(made)}"
        directory.mkdir()
        one = Daemon(directory, **{**chosen, **options})
        made.append(one)
        return one

    yield make
    try:
        for one in made:
            if one.process is not None and one.process.poll() is None:
                one.stop()
            one.check_log()
    finally:
        for one in made:
            one.kill()


@pytest.fixture
def recording(daemon, tmp_path):
    """A function that makes a daemon with the application `recording` and an `executed` file; `delay` is the application's."""

    def make(delay: float = 0, **options) -> Daemon:
        one = daemon(paste=pipeline("recording", file=tmp_path / "executed", delay=delay), **options)
        one.executed = tmp_path / "executed"
        return one

    return make


@pytest.fixture
def load(tmp_path):
    """A function that makes a `Load` on a daemon of `recording`; its clients are ended with the test."""
    made: list[Load] = []

    def make(one: Daemon, address=None, **options) -> Load:
        made.append(Load(address or one.address, tmp_path / f"load{len(made)}", executed=one.executed, **options))
        return made[-1]

    yield make
    for each in made:
        each.__exit__()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for one in item.stash.get(DAEMONS, []):
            report.sections.append((f"log of {one!r}", one.log()))
    return report


@pytest.fixture
def preloading(daemon):
    """A function that makes a daemon with APPLICATION and preload = on; `more` is added to the module."""

    def make(more: str = "", **options):
        one = daemon(paste=PASTE, **{"preload": "on", **options})
        (one.directory / "loaded.py").write_text(APPLICATION + more, encoding="utf-8")
        return one

    return make
