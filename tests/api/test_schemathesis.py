"""schemathesis against APIs of the toolkit: generated requests find no answer that the document does not promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from paste.deploy import loadapp

from apid.wsgi.middleware.faultwrap import FaultWrapper
from apid.wsgi.openapi import Document, OpenAPI
from apid.wsgi.urlmap import URLMap
from tests.api.plants import Plants

TOP = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

UNSAID = [
    # What a document cannot say of the default API: that the body's schema depends on the microversion, that a change needs
    # the ETag of what it changes, and that the project in the path must be the one of the token.
    "positive_data_acceptance",
    # PUT /animals/detail is a PUT of the animal "detail", as in nova: Allow says so, and the document has it under {id}.
    "allow_header_conformance",
]


def exercise(application, mode, examples, excluded):
    """Send generated requests to every operation of an application's document, and judge the answers.

    Not with schemathesis' own parametrize(): the application would be loaded, and its database made, at import. The import of
    schemathesis takes a second, which runs of other tests should not pay, so it is local.
    """
    import schemathesis
    from schemathesis.specs.openapi import checks

    mode = schemathesis.GenerationMode(mode)
    excluded = [getattr(checks, name) for name in excluded]
    schema = schemathesis.openapi.from_wsgi("/openapi.json", application)
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            case.call_and_validate(excluded_checks=excluded)

        try:
            send()
        except Unsatisfiable:  # nothing of this operation can be wrong
            assert mode is schemathesis.GenerationMode.NEGATIVE
        seen += 1
    return seen


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_default_api(mode):
    application = loadapp(f"config:{TOP}/etc/apid/api-paste.ini")
    assert exercise(application, mode, 20, UNSAID) >= 16


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_a_small_api(mode):
    """With schemas, pages, microversions and an action."""
    urlmap = URLMap()
    urlmap["/v1"] = FaultWrapper(Plants())
    urlmap["/openapi.json"] = OpenAPI(Document(Plants(), "/v1", "Plants", "1.2").build())
    assert exercise(urlmap, mode, 60, []) == 5
