"""Whatever was answered 201 is kept: 20 times SIGKILL of a worker, or of the whole daemon, in the middle of writes to SQLite."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import threading
from typing import Self

import pytest

from tests.support.client import AnswerError, Connection, get
from tests.support.daemon import TOP
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

SHIPPED = TOP / "etc" / "apid" / "api-paste.ini"
KILLS, WRITERS = 20, 6
JSON = {"Content-Type": "application/json"}


class Writers:
    """Threads that create animals one after the other, at whatever address is the present one, and note what was answered."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self.answered: list[str] = []
        self.others: set[int] = set()
        self.cut = 0
        self._names = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Connection(self.address, timeout=10) as client:
                    while not self._stop.is_set():
                        self._create(client)
            except ConnectionRefusedError:
                self._stop.wait(0.02)
            except (OSError, AnswerError):
                self.cut += 1

    def _create(self, client: Connection) -> None:
        body = json.dumps({"animal": {"name": f"n{next(self._names)}", "species": "dog"}}).encode()
        answer = client.request("POST", "/v1/animals", body=body, headers=JSON)
        if answer.status == 201:
            self.answered.append(answer.json()["animal"]["id"])
        else:
            self.others.add(answer.status)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.answered) + count
        wait_until(lambda: len(self.answered) >= wanted, f"{count} more animals", 20)


def listed(address) -> set[str]:
    """Every animal there is, page by page."""
    ids: set[str] = set()
    marker = ""
    while True:
        page = get(address, f"/v1/animals?limit=500{marker}").json()
        ids |= {animal["id"] for animal in page["animals"]}
        if "animals_links" not in page:
            return ids
        marker = f"&marker={page['animals'][-1]['id']}"


def test_twenty_kills_under_load_lose_nothing_that_was_answered(daemon, tmp_path, say):
    file = tmp_path / "zoo.sqlite"
    database = {"database": {"connection": f"sqlite:///{file}"}, "paste_deploy": {"config_file": SHIPPED}}

    def started():
        one = daemon(sections=database, workers=2).start()
        one.allow(r"was killed by SIGKILL|signal 9|SIGKILL")
        return one

    one = started()
    with Writers() as writers:
        writers.address = one.address
        for number in range(KILLS):
            writers.wait_for_more(random.randint(5, 25))
            workers = one.worker_pids()
            if number % 4 == 3:
                one.signal(signal.SIGKILL)
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
                one.wait()
                one = started()
                writers.address = one.address
            else:
                os.kill(random.choice(workers), signal.SIGKILL)
        writers.wait_for_more(20)
    kept = listed(one.address)
    missing = set(writers.answered) - kept
    say(f"{len(writers.answered)} answered 201, {writers.cut} connections cut, {len(kept)} kept, {KILLS} kills")
    assert not missing
    assert writers.others <= {409, 503}
    assert writers.cut >= KILLS // 4  # the kills hit requests
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
