"""R3: the last answer of every connection that a drain closes says `Connection: close`, or it had been idle for long."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection
from tests.support.processes import wait_until


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["reload", "stop"])
def test_r3_a_busy_connection_is_told(daemon, number):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    last, all_in = {}, threading.Barrier(21)

    def talk(index):
        with Connection(one.address) as connection:
            assert connection.request().status == 200
            all_in.wait(20)
            while True:
                answer = connection.request()
                if answer.closes:
                    last[index] = (answer.status, connection.rest())
                    return
                time.sleep(0.01)

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    all_in.wait(20)
    one.signal(number)
    for thread in threads:
        thread.join(20)
    assert last == dict.fromkeys(range(20), (200, b""))
    assert one.stop() == 0


def test_r3_an_answer_under_way_announces_the_close(daemon, tmp_path):
    one = daemon(paste=pipeline("slow", seconds=0.5, began=tmp_path / "began"), workers=1).start()
    with Connection(one.address) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until((tmp_path / "began").exists, "the request is in flight")
        one.signal(signal.SIGTERM)
        answer = connection.answer()
        assert answer.status == 200
        assert answer.closes
    assert one.stop() == 0


def test_r3_pipelined_requests_are_all_answered_before_the_close(daemon):
    one = daemon(paste=pipeline("slow", seconds=0.1), workers=1).start()
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(Connection(one.address))
        connection.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5)
        one.signal(signal.SIGTERM)
        answers = []
        while not answers or not answers[-1].closes:
            answers.append(connection.answer())
        assert {answer.status for answer in answers} == {200}
        assert [answer.closes for answer in answers[:-1]] == [False] * (len(answers) - 1)
    assert one.stop() == 0
