"""The judge is judged first: a server that misbehaves in one way is found out, by the name of that way."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.support.load import Load

pytestmark = pytest.mark.slow


class Crooked:
    """A small threaded HTTP server that treats every `each`-th request wrongly, in one way. It records like the application."""

    def __init__(self, fault, file, each=7):
        self.fault, self.each = fault, each
        self.file = open(file, "ab", buffering=0)  # noqa: SIM115 - closed in `close`
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        self.count = 0
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.serve, args=(conn,))
            self.threads.append(thread)
            thread.start()

    def serve(self, conn):
        with conn, conn.makefile("rb") as reader:
            conn.settimeout(5)
            try:
                while self.one(conn, reader):
                    pass
            except OSError:
                return

    def one(self, conn, reader):
        line = reader.readline()
        if not line:
            return False
        fields = {}
        while (head := reader.readline()) not in {b"\r\n", b""}:
            name, _, value = head.decode().partition(":")
            fields[name.lower()] = value.strip()
        length = int(fields.get("content-length", 0))
        reader.read(length)
        self.count += 1
        bad = self.count % self.each == 0
        ident = fields["x-id"]
        if bad and self.fault == "eof":
            return False
        self.file.write(f"{ident}\n".encode())
        if bad and self.fault == "ghost":
            return False
        if bad and self.fault == "twice":
            self.file.write(f"{ident}\n".encode())
        if bad and self.fault == "slow":
            time.sleep(0.3)
        return self.answer(conn, ident, length, bad, "close" in fields.get("connection", ""))

    def answer(self, conn, ident, length, bad, oneshot):
        if bad and self.fault == "swap":
            ident = "another"
        body = f"id={ident} length={length} pid=1\n".encode()
        status = b"503 Service Unavailable" if bad and self.fault == "status" else b"200 OK"
        close = b"Connection: close\r\n" if bad and self.fault == "announced" else b""
        data = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), close, body)
        conn.sendall(data[:-3] if bad and self.fault == "cut" else data)
        return not oneshot and not (bad and self.fault in {"cut", "announced", "early_close"})

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)
        self.file.close()


@pytest.fixture
def run(tmp_path):
    def _run(fault, **options):
        file = tmp_path / "executed"
        server = Crooked(fault, file)
        try:
            options = {"connections": 6, "pace": 0.002, **options}
            with Load(server.address, tmp_path / "load", executed=file, **options) as load:
                time.sleep(0.5)
                return load.stop()
        finally:
            server.close()

    return _run


@pytest.mark.parametrize("mode", ["keepalive", "oneshot", "mix"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_honest_server_is_acquitted(run, mode, method):
    figures = run("none", mode=mode, method=method)
    assert figures.answered == figures.sent > 20
    assert figures.errors == 0, figures
    assert figures.pids == {1}
    assert 0 < figures.p50 <= figures.p99 <= figures.stall


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("eof", "eof"), ("swap", "wrong"), ("status", "wrong"), ("cut", "cut"), ("early_close", "early_close")],
)
def test_a_fault_is_found_by_its_name(run, fault, kind):
    figures = run(fault)
    expected = {kind, "reset"} if fault == "early_close" else {kind}  # the next request may meet the close
    assert kind in figures.failures, figures
    assert figures.failures.keys() <= expected, figures
    assert figures.failures[kind] > 0
    assert figures.examples


def test_a_ghost_is_counted(run):
    figures = run("ghost", method="POST")
    assert figures.ghosts == figures.failures["eof"] > 0, figures


def test_a_request_executed_twice_is_counted(run):
    figures = run("twice")
    assert figures.twice > 0, figures
    assert not figures.failures


def test_an_announced_close_is_no_failure(run):
    figures = run("announced")
    assert figures.announced > 0, figures
    assert figures.errors == 0, figures


def test_a_stall_is_seen(run):
    figures = run("slow")
    assert figures.stall >= 0.3, figures
    assert figures.p50 < 0.3


def test_a_server_that_is_gone_is_refusal(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with Load(address, tmp_path, connections=2) as load:
        figures = load.stop()
    assert set(figures.failures) == {"refused"}, figures
    assert figures.sent == 0
