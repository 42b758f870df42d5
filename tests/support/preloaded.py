"""An application that says how often it was loaded, and what it was when it was."""

from __future__ import annotations

PASTE = "[app:main]\npaste.app_factory = loaded:factory\n"
APPLICATION = """
import os, pathlib

VERSION = "first"
HERE = pathlib.Path(__file__).parent
with open(HERE / "loads", "a") as file:
    print(os.getpid(), file=file)

def factory(global_conf):
    return application

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{VERSION} {os.getpid()}".encode()]

def note(name):
    def hook(slot, generation, pid):
        with open(HERE / "hooks", "a") as file:
            print(name, slot, generation, pid == os.getpid(), file=file)
    return hook

after_load, after_fork, before_exit = note("after_load"), note("after_fork"), note("before_exit")
"""


def loads(one) -> int:
    return len((one.directory / "loads").read_text(encoding="utf-8").splitlines())
