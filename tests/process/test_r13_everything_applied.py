"""R13: a reload applies everything, or nothing and says why."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.processes import wait_until

APP = """
def factory(global_conf, word="none", **local_conf):
    def app(environ, start_response):
        body = ("code {mark} paste " + word).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    return app
"""
PASTE = "[app:main]\npaste.app_factory = changing:factory\nword = {word}\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def test_r13_everything_is_applied_by_one_reload(daemon, tmp_path):
    """Code, paste file, options, worker count, log file, pid file, control socket, a listener more: all at once."""
    one = daemon(paste=PASTE.format(word="one"), workers=2, pid_file=tmp_path / "one.pid")
    code = one.directory / "changing.py"
    code.write_text(APP.replace("{mark}", "one"))
    one.start()
    address = one.address
    assert get(address).text == "code one paste one"
    assert int((tmp_path / "one.pid").read_text()) == one.pid

    code.write_text(APP.replace("{mark}", "two"))
    os.utime(code, (0, 0))  # Python takes a source of the same size and second for the one it has compiled
    one.paste.write_text(PASTE.format(word="two"))
    port, old_control = free_port(), one.control
    one.options |= {
        "workers": 3,
        "max_request_line": 300,
        "log_file": tmp_path / "new.log",
        "pid_file": tmp_path / "two.pid",
        "control_socket": tmp_path / "ctl2",
        "listeners": "admin",
    }
    one.sections["listener:admin"] = {"bind": f"127.0.0.1:{port}"}
    one.write_config()
    assert one.ask("reload")["ok"]
    one.control = tmp_path / "ctl2"

    assert get(address).text == "code two paste two"
    assert get(("127.0.0.1", port)).text == "code two paste two"
    assert get(address, "/" + "x" * 400).status == 414
    status = one.status()
    assert status["wanted"] == status["ready"] == 3
    assert int((tmp_path / "two.pid").read_text()) == one.pid
    assert not (tmp_path / "one.pid").exists()
    assert not old_control.exists()
    assert "reload: generation 2 is ready" in (tmp_path / "new.log").read_text()

    one.options["listeners"] = None
    one.sections.clear()
    one.options |= {"workers": 1, "control_socket": None}
    one.write_config()
    assert one.ask("reload")["ok"], "who asks gets the verdict, though the control socket goes with it"
    assert not (tmp_path / "ctl2").exists()
    wait_until(lambda: refused(port), "the removed listener is closed", 5)
    one.wait_for_workers(1)
    assert get(address).status == 200
    assert one.stop() == 0
    assert not (tmp_path / "two.pid").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_r13_a_new_certificate_is_served_after_a_reload(daemon, tmp_path):
    def certify(name):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += [
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(tmp_path / "key.pem"),
            "-out",
            str(tmp_path / "cert.pem"),
        ]
        subprocess.run(command, check=True, capture_output=True)

    def served():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Connection(one.address, tls=context) as connection:
            return connection.sock.getpeercert(binary_form=True)

    certify("one")
    sections = {"ssl": {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}}
    one = daemon(paste=pipeline("hello"), sections=sections).start()
    before = served()
    assert before == ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text())
    certify("two")
    assert served() == before, "not before it is told"
    assert one.ask("reload")["ok"]
    assert served() == ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text()) != before
    (tmp_path / "cert.pem").write_text("no certificate")
    answer = one.ask("reload")
    assert not answer["ok"]
    assert "cert.pem" in answer["text"]
    one.allow("reload failed")
    assert one.stop() == 0


@pytest.mark.parametrize("what", ["pid_file", "log_file", "control_socket"])
def test_r13_what_cannot_be_applied_is_a_verdict(daemon, tmp_path, what):
    """Found out before anything has changed, not told as a line of the log after a verdict that was good."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    workers = one.wait_for_workers(1)
    one.options[what] = tmp_path / "no such directory" / "file"
    one.write_config()
    answer = one.ask("reload")
    assert not answer["ok"], one.log()
    assert str(tmp_path / "no such directory") in answer["text"]
    assert one.worker_pids() == workers
    one.allow("reload failed")
    one.options[what] = one.control if what == "control_socket" else None
    one.write_config()
    assert one.ask("reload")["ok"]
    assert one.stop() == 0
