"""R7: a reload that cannot succeed is a no-op: no error under load, the same workers, a verdict with its reason."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.apps import pipeline


def broken_ini(one, stack):
    one.paste.write_text("[app:main\n")
    return "api-paste.ini"


def missing_factory(one, stack):
    one.paste.write_text("[app:main]\npaste.app_factory = no_such_module:factory\n")
    return "no_such_module"


def raises_at_load(one, stack):
    (one.directory / "how").write_text("raise")
    one.paste.write_text(pipeline("bad_at_load", how=one.directory / "how"))
    return "does not want to be loaded"


def hangs_at_load(one, stack):
    (one.directory / "how").write_text("hang")
    one.options["startup_timeout"] = 1
    one.write_config()
    one.paste.write_text(pipeline("bad_at_load", how=one.directory / "how"))
    return "startup_timeout"


def loops_at_load(one, stack):
    (one.directory / "how").write_text("loop")
    one.options["startup_timeout"] = 1
    one.write_config()
    one.paste.write_text(pipeline("bad_at_load", how=one.directory / "how"))
    return "startup_timeout"


def dies_at_load(one, stack):
    (one.directory / "how").write_text("segv")
    one.paste.write_text(pipeline("bad_at_load", how=one.directory / "how"))
    return "signal 11"


def address_in_use(one, stack):
    taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    one.options["listeners"] = "second"
    one.sections["listener:second"] = {"bind": address}
    one.write_config()
    return address


def unknown_option(one, stack):
    one.options["workres"] = 3
    one.write_config()
    return "workres"


def missing_certificate(one, stack):
    one.sections["ssl"] = {"cert_file": "/no/such.pem", "key_file": "/no/such.key"}
    one.write_config()
    return "/no/such.pem"


def missing_configuration(one, stack):
    one.config.unlink()
    return "apid.conf"


CASES = [
    broken_ini,
    missing_factory,
    raises_at_load,
    hangs_at_load,
    loops_at_load,
    dies_at_load,
    address_in_use,
    unknown_option,
    missing_certificate,
    missing_configuration,
]


@pytest.mark.also_without_preload
def test_r7_a_bad_reload_changes_nothing(recording, load):
    """One daemon and one load for all cases, one after the other; at the end a good reload."""
    one = recording(workers=2).start()
    workers = one.wait_for_workers(2)
    good = one.paste.read_text(), dict(one.options), dict(one.sections)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(load(one, mode="mix", connections=8, processes=1, pace=0.02))
        for number, case in enumerate(CASES, 1):
            named = case(one, stack)
            done = one.apidctl("reload", check=False)
            assert done.returncode not in {0, 70}, (case, done)
            assert named in done.stderr, (case, done)
            assert one.wait_for_workers(2) == workers, case
            status = one.status()
            assert status["generation"] == 1, case
            assert status["last_change"]["ok"] is False, case
            assert named in status["last_change"]["text"], case
            assert one.log().count("reload failed, generation 1 goes on") == number
            one.options, one.sections = dict(good[1]), dict(good[2])
            one.paste.write_text(good[0])
            one.write_config()
        done = one.ask("reload")
        figures = running.stop()
    assert done["ok"], done
    assert figures.errors == 0, figures
    assert one.status()["ready"] == 2
    one.allow(".")
    assert one.stop() == 0
