"""The traceparent filter, by the words of W3C Trace Context."""

from __future__ import annotations

import logging
import re

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware.traceparent import factory
from tests.wsgi.middleware.wire import Seen, ask

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def through(value=None, state="a=1", **options):
    seen = Seen()
    headers = {} if value is None else {"traceparent": value}
    ask(factory({}, **options), seen, tracestate=state, **headers)
    return seen.environ


def test_a_valid_one_is_passed_on_as_it_came():
    environ = through(GOOD)
    assert environ["HTTP_TRACEPARENT"] == GOOD
    assert environ["HTTP_TRACESTATE"] == "a=1"
    assert environ["apid.trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert environ["apid.parent_id"] == "00f067aa0ba902b7"


def test_a_later_version_may_have_more_fields():
    later = GOOD.replace("00-", "cc-", 1) + "-what-comes-then"
    assert through(later)["apid.trace_id"] == GOOD[3:35]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-00",
        GOOD + ",",
        f"{GOOD},{GOOD}",
        f" {GOOD}",
        GOOD.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        GOOD + "\n",
    ],
)
def test_a_missing_or_broken_one_is_begun_anew_without_its_state(value):
    environ = through(value)
    assert environ["HTTP_TRACEPARENT"] != value
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-00", environ["HTTP_TRACEPARENT"])
    assert found
    assert (environ["apid.trace_id"], environ["apid.parent_id"]) == found.groups()
    assert "HTTP_TRACESTATE" not in environ


def test_it_is_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        through(GOOD)
        through(GOOD, log_level="info")
    levels = [record.levelname for record in caplog.records if "4bf92f3577b34da6a3ce929d0e0e4736" in record.message]
    assert levels == ["DEBUG", "INFO"]


def test_a_wrong_option_is_named():
    with pytest.raises(OptionError, match="log_level"):
        factory({}, log_level="loud")
