"""An engine in a process of its own, shared by the tests of a module."""

import pytest

from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import Connection
from tests.support.engine import serving


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    log = tmp_path_factory.mktemp("engine") / "access.log"
    with serving(framing.app, Http(access_log=str(log))) as engines:
        engines.access_log = log
        yield engines


@pytest.fixture
def connection(engine):
    with Connection(engine.address) as one:
        yield one
