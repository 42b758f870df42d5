"""Applications inside wsgiref.validate.validator, which judges the server by PEP 3333 as well as the application."""

import sys
import warnings
from wsgiref.validate import WSGIWarning, validator

warnings.simplefilter("error", WSGIWarning)

TEXT = [("Content-Type", "text/plain")]


def inner(env, start):
    """Answer in the shape that the path names."""
    given = env["wsgi.input"]
    match env["PATH_INFO"]:
        case "/echo":
            content = [given.read(int(env.get("CONTENT_LENGTH") or 1 << 20))]
        case "/pieces":
            content = iter(lambda: given.read(7), b"")
        case "/lines":
            content = [given.readline(100), *given.readlines(), *given]
        case "/written":
            start("200 OK", TEXT)(b"written ")
            return [b"and returned"]
        case "/rescued":
            start("200 OK", TEXT)
            try:
                raise ValueError("on the way")
            except ValueError:
                start("503 Sorry", TEXT, sys.exc_info())
            return [b"rescued"]
        case "/no-content":
            start("204 No Content", [])
            return []
        case "/file":
            start("200 OK", TEXT)
            return env["wsgi.file_wrapper"](open(__file__, "rb"), 1000)
        case "/errors":
            env["wsgi.errors"].write("one ")
            env["wsgi.errors"].writelines(["line\n"])
            env["wsgi.errors"].flush()
            content = [b"told"]
        case _:
            content = [b"body"]
    start("200 OK", TEXT)
    return content


def wrong(env, start):
    """Against PEP 3333: a header's value is no string."""
    start("200 OK", [("Content-Type", b"text/plain")])
    return [b"body"]


_checked, _checked_wrong = validator(inner), validator(wrong)


def app(env, start):
    """`inner`, validated."""
    return _checked(env, start)


def wrong_app(env, start):
    """`wrong`, validated."""
    return _checked_wrong(env, start)
