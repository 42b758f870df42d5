"""Fixtures of the toolkit's tests."""

from __future__ import annotations

import gc

import pytest

from apid.wsgi.middleware.faultwrap import FaultWrapper
from apid.wsgi.ratelimit.sharedtable import SharedTable
from apid.wsgi.testing import Client
from tests.wsgi.zoo import Zoo


@pytest.fixture
def zoo():
    return Client(FaultWrapper(Zoo()))


@pytest.fixture
def table(tmp_path):
    made = SharedTable(tmp_path / "table", 1)
    yield made
    made.close()


@pytest.fixture
def tables_closed():
    """Close the shared tables of ratelimit filters that a pipeline has opened; a worker keeps them for its life.

    The test puts the pipelines into the list, so that no table is collected, and its descriptor lost, before it is closed.
    """
    kept = []
    yield kept
    for table in [found for found in gc.get_objects() if isinstance(found, SharedTable)]:
        table.close()
    gc.collect()
