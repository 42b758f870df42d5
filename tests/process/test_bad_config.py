"""Every mistake in the operator's files ends a start with 2 and one message that names the file and the cause; none is served."""

from __future__ import annotations

import pytest

from tests.support.apps import pipeline

HELLO = pipeline("hello")

OPTIONS = {
    "an unknown option": ({"keepalive_timeot": 5}, {}, ["keepalive_timeot", "keepalive_timeout"]),
    "an unknown section": ({}, {"paste_deplyo": {"flavor": "x"}}, ["paste_deplyo", "paste_deploy"]),
    "an option of another section": ({"flavor": "x"}, {}, ["flavor"]),
    "no number": ({"workers": "many"}, {}, ["workers", "many"]),
    "a negative number": ({"workers": -1}, {}, ["workers", "-1"]),
    "a port that cannot be": ({"bind_port": 70000}, {}, ["bind_port", "70000"]),
    "an address that cannot be": ({"bind": "127.0.0.1:port"}, {}, ["bind", "127.0.0.1:port"]),
    "a user that is not": ({"user": "no-such-user-here"}, {}, ["user", "no-such-user-here"]),
    "a certificate that is not there": ({}, {"ssl": {"cert_file": "/no/cert", "key_file": "/no/key"}}, ["/no/cert"]),
    "a certificate without its key": ({}, {"ssl": {"cert_file": __file__}}, ["key_file"]),
    "a listener that is named and not there": ({"listeners": "admin"}, {}, ["admin"]),
    "no such pipeline file": ({}, {"paste_deploy": {"config_file": "/no/paste.ini"}}, ["/no/paste.ini"]),
    "an app that is not in the file": ({}, {"paste_deploy": {"app_name": "other"}}, ["other", "api-paste.ini"]),
    "a flavor that is not in the file": (
        {},
        {"paste_deploy": {"flavor": "keystone"}},
        ["main-keystone", "api-paste.ini"],
    ),
}

PIPELINES = {
    "an empty file": ("", ["api-paste.ini"]),
    "no section header": ("paste.app_factory = a:b\n", ["api-paste.ini"]),
    "a section twice": ("[app:main]\nuse = egg:x\n[app:main]\n", ["api-paste.ini", "app:main"]),
    "an unknown distribution": ("[app:main]\nuse = egg:no-such-dist#x\n", ["api-paste.ini", "no-such-dist"]),
    "an unknown module": ("[app:main]\npaste.app_factory = no_such_module:x\n", ["api-paste.ini", "no_such_module"]),
    "an unknown attribute": (
        "[app:main]\npaste.app_factory = json:no_such_thing\n",
        ["api-paste.ini", "no_such_thing"],
    ),
    "a factory without a colon": ("[app:main]\npaste.app_factory = json\n", ["api-paste.ini"]),
    "an unknown filter": (
        "[pipeline:main]\npipeline = nofilter app\n[app:app]\nuse = call:tests.support.apps.hello:factory\n",
        ["api-paste.ini", "nofilter"],
    ),
    "an empty pipeline": ("[pipeline:main]\npipeline =\n", ["api-paste.ini", "main"]),
    "a cycle": ("[app:main]\nuse = main\n", ["api-paste.ini"]),
    "a stray percent": ("[app:main]\npaste.app_factory = %(nope)s\n", ["api-paste.ini", "nope"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_mistake_in_the_configuration(daemon, case):
    options, sections, named = OPTIONS[case]
    one = daemon(paste=HELLO, sections=sections, **options).launch()
    judge(one, named)


@pytest.mark.parametrize("case", PIPELINES)
def test_a_mistake_in_the_pipeline(daemon, case):
    text, named = PIPELINES[case]
    judge(daemon(paste=text, workers=1).launch(), named)


def judge(one, named):
    assert one.wait(30) == 2, one.log()
    one.allow("CRITICAL", "ERROR")
    missing = [name for name in named if name not in one.log()]
    assert not missing, f"{missing} not in:\n{one.log()}"
    assert "Traceback" not in one.log(), one.log()
    assert "ready" not in one.log()


def test_a_file_that_is_not_utf_8(daemon):
    one = daemon(paste=HELLO)
    one.config.write_bytes(b"[DEFAULT]\nworkers = \xff\n")
    judge(one.launch(), ["apid.conf"])


def test_line_and_file_of_a_syntax_error(daemon):
    one = daemon(paste=HELLO)
    one.config.write_text("[DEFAULT]\nworkers 2\n")
    judge(one.launch(), ["apid.conf", "2"])


def test_environment_wins_over_the_file_and_is_checked_as_well(daemon):
    one = daemon(paste=HELLO, workers=2, environment={"OS_DEFAULT__WORKERS": "1"}).start()
    assert len(one.wait_for_workers(1)) == 1
    assert one.stop() == 0
    judge(daemon(paste=HELLO, environment={"OS_DEFAULT__WORKERS": "one"}).launch(), ["OS_DEFAULT__WORKERS", "one"])
