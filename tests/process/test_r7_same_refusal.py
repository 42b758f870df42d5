"""R7: what a worker cannot open is refused by --check-config, reload, upgrade and start alike, with one text."""

import os
import subprocess

import pytest

from tests.support import unprivileged
from tests.support.apps import pipeline
from tests.support.certificates import KEY, openssl
from tests.support.daemon import PROGRAM


@pytest.fixture
def tmp_path():
    """Where the workers' user may go."""
    yield from unprivileged.open_directory()


def key_of_another_user(at):
    (at / "key.pem").chmod(0o600)
    return "[ssl]\ncert_file = cert.pem\nkey_file = key.pem\n", ":3: [ssl] key_file = key.pem: ", "Permission denied"


def key_that_is_a_fifo(at):
    os.mkfifo(at / "fifo")
    return "[ssl]\ncert_file = cert.pem\nkey_file = fifo\n", ":3: [ssl] key_file = fifo: ", "it is a FIFO"


def access_log_of_another_user(at):
    (at / "access.log").touch(mode=0o644)
    return "[DEFAULT]\naccess_log = access.log\n", ":2: [DEFAULT] access_log = access.log: ", "Permission denied"


def access_log_in_a_directory_of_another_user(at):
    return "[DEFAULT]\naccess_log = new.log\n", ":2: [DEFAULT] access_log = new.log: ", "Permission denied"


def paste_file_of_another_user(at):
    (at / "own.ini").write_text(pipeline("hello"))
    (at / "own.ini").chmod(0o600)
    return "[paste_deploy]\nconfig_file = own.ini\n", ":2: [paste_deploy] config_file = own.ini: ", "Permission denied"


def paste_file_in_a_closed_directory(at):
    (at / "closed").mkdir(mode=0o700)
    (at / "closed" / "own.ini").write_text(pipeline("hello"))
    text = "[paste_deploy]\nconfig_file = closed/own.ini\n"
    return text, ":2: [paste_deploy] config_file = closed/own.ini: ", "Permission denied"


CASES = [
    key_of_another_user,
    key_that_is_a_fifo,
    access_log_of_another_user,
    access_log_in_a_directory_of_another_user,
    paste_file_of_another_user,
    paste_file_in_a_closed_directory,
]


@pytest.fixture
def broken(tmp_path):
    """A second configuration file, in a directory with a certificate and a key."""
    at = tmp_path / "broken"
    at.mkdir()
    openssl("req", "-x509", *KEY, "-subj", "/CN=x", "-days", "2", "-keyout", at / "key.pem", "-out", at / "cert.pem")
    (at / "open.pem").write_bytes((at / "key.pem").read_bytes())
    (at / "open.pem").chmod(0o644)
    (at / "more.conf").touch()
    return at / "more.conf"


def refusals(one, other, command, file, text):
    """Return (exit code, what was said) of a reload of one, a check, and a start of other."""
    file.write_text(text)
    check = [*one.program, "--config-file", str(one.config), "--config-file", str(file), "--check-config"]
    for done in (
        one.apidctl("reload", check=False),
        subprocess.run(check, capture_output=True, text=True, check=False),
    ):
        yield done.returncode, done.stderr
    yield other.launch().wait(), other.log()
    other.allow(r"cannot be (read|opened)")
    file.write_text("")


@pytest.mark.slow
def test_r7_root_with_an_unprivileged_user(daemon, broken):
    program = [*unprivileged.prefix(), str(PROGRAM)]
    options = {"paste": pipeline("hello"), "arguments": ["--config-file", broken], "program": program, "workers": 1}
    one, other = (daemon(user=unprivileged.USER, **options) for _ in range(2))
    one.start()
    workers = one.wait_for_workers(1)
    for case in CASES:
        text, place, cause = case(broken.parent)
        said = list(refusals(one, other, program, broken, text))
        lines = {line.partition(str(broken))[2] for _, output in said for line in output.splitlines() if place in line}
        lines = {line.removesuffix(" (0 requests)") for line in lines}
        assert len(lines) == 1, (case, said)
        assert lines.pop().startswith(place), (case, said)
        assert all(cause in output for _, output in said), (case, said)
        assert [code for code, _ in said] == [1, 2, 2], (case, said)
        assert one.worker_pids() == workers
    assert not (broken.parent / "new.log").exists()
    text, place, cause = key_of_another_user(broken.parent)
    broken.write_text(text)
    assert cause in one.apidctl("upgrade", check=False).stderr
    broken.write_text("")
    one.allow("reload failed", "upgrade failed")
    assert one.ask("reload")["ok"]


def test_r7_a_daemon_without_privileges(daemon, broken):
    uid, gid = unprivileged.ids()
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    program = [*unprivileged.prefix(), *become, str(PROGRAM)]
    options = {"paste": pipeline("hello"), "arguments": ["--config-file", broken], "program": program, "workers": 1}
    one, other = (daemon(**options) for _ in range(2))
    for each in (one, other):
        os.chown(each.directory, uid, gid)
    one.start()
    for case in (key_of_another_user, access_log_in_a_directory_of_another_user):
        text, place, cause = case(broken.parent)
        for _, output in refusals(one, other, program, broken, text):
            assert f"{broken}{place}" in output
            assert cause in output
    one.allow("reload failed")
