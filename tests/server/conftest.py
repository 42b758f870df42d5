"""Tests here run once for each engine, in processes of its own (tests/support/engine.py).

What only one engine can do or promises is restricted to it, with the reason: `@pytest.mark.only("eventlet", "…")`.
"""

import functools

import pytest

from apid.conf.settings import POOL_SIZES, Http
from tests.support import engine as support
from tests.support.apps import framing
from tests.support.client import Connection
from tests.support.forge import forge


def pytest_generate_tests(metafunc):
    if "engine_name" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        names, _reason = ([only.args[0]], only.args[1]) if only else (list(POOL_SIZES), "")
        metafunc.parametrize("engine_name", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def forges():
    """Start what forks the engines before a test looks which processes it has."""
    for name in POOL_SIZES:
        forge(name)


@pytest.fixture(scope="session")
def engine_name(request):
    """The engine for which the test runs."""
    return request.param


@pytest.fixture(scope="session")
def serving(engine_name):
    """`tests.support.engine.serving` with that engine."""
    return functools.partial(support.serving, engine=engine_name)


@pytest.fixture(scope="module")
def engine(serving, tmp_path_factory):
    """An engine with tests/support/apps/framing.py, shared by the tests of a module; `access_log` is its path."""
    log = tmp_path_factory.mktemp("engine") / "access.log"
    with serving(framing.app, Http(access_log=str(log))) as engines:
        engines.access_log = log
        yield engines


@pytest.fixture
def connection(engine):
    """A connection to it."""
    with Connection(engine.address) as one:
        yield one
