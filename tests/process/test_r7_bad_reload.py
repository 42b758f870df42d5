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
    one.paste.write_text(pipeline("bad_at_load", how=one.directory / "how"))
    return "startup_timeout"


def loops_at_load(one, stack):
    (one.directory / "how").write_text("loop")
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_r7_a_bad_reload_changes_nothing(recording, load, case):
    one = recording(workers=2, startup_timeout=5).start()
    workers = one.wait_for_workers(2)
    one.options["startup_timeout"] = 2
    with contextlib.ExitStack() as stack:
        named = case(one, stack)
        with load(one, mode="mix", connections=8, processes=1, pace=0.002) as running:
            done = one.apidctl("reload", check=False)
            figures = running.stop()
    assert done.returncode not in {0, 70}, done
    assert named in done.stderr, done
    assert figures.errors == 0, figures
    assert one.wait_for_workers(2) == workers
    status = one.status()
    assert status["generation"] == 1
    assert status["last_change"]["ok"] is False
    assert named in status["last_change"]["text"]
    assert "reload failed, generation 1 goes on" in one.log()
    one.allow(".")


def test_r7_and_the_next_good_one_works(recording):
    one = recording(workers=1).start()
    good = one.paste.read_text()
    one.paste.write_text("[app:main\n")
    assert not one.ask("reload")["ok"]
    one.paste.write_text(good)
    done = one.ask("reload")
    assert done["ok"], done
    assert one.status()["ready"] == 1
    one.allow(".")
    assert one.stop() == 0
