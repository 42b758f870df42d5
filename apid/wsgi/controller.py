"""Saying what a controller's method is: its status, its errors, its body, its microversions. Decorators, and what they declare.

A controller is a plain object with methods named index, show, create, update, delete, detail or as the route says. The methods
stay plain functions; a decorator only writes a `Declared` beside them, which `resource` reads once, when the pipeline is built.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from apid.wsgi.microversions import Window

Method = TypeVar("Method", bound=Callable[..., Any])
_DECLARED = "__apid_declared__"
_WINDOWS = "__apid_windows__"


@dataclass(frozen=True)
class Declared:
    """What the decorators of one method say.

    Attributes:
        code: the status of a good answer.
        action: the body's key, for a method reached by `POST …/action`.
        expected: the error codes that the method may answer with; None where nothing was declared.
        bodies: schemas of the body (validation.Schema), each with its window.
        queries: schemas of the query string, each with its window.
        extends: whether this method of an extension goes around one of the controller's; with the action's key if it is one.
        extends_action: the key of the action that it goes around.
    """

    code: int = 200
    action: str | None = None
    expected: frozenset[int] | None = None
    bodies: tuple[tuple[Window, Any], ...] = ()
    queries: tuple[tuple[Window, Any], ...] = ()
    extends: bool = False
    extends_action: str | None = None


def declared(method: Callable[..., Any]) -> Declared:
    """What the decorators of a method say; the defaults where there are none."""
    found = getattr(method, _DECLARED, None)
    return found if isinstance(found, Declared) else Declared()


def declare(method: Method, **changes: Any) -> Method:
    """Change what is declared about a method."""
    setattr(method, _DECLARED, replace(declared(method), **changes))
    return method


def response(code: int) -> Callable[[Method], Method]:
    """The status of a good answer, such as 201 for create."""
    return lambda method: declare(method, code=code)


def action(name: str) -> Callable[[Method], Method]:
    """The method answers `POST …/action` with the body `{name: …}`."""
    return lambda method: declare(method, action=name)


def expected_errors(*codes: int) -> Callable[[Method], Method]:
    """The error codes that the method may answer with; any other error in it becomes a 500 (401 and 403 always pass)."""
    return lambda method: declare(method, expected=frozenset(codes))


def extends(method: Method | None = None, *, action: str | None = None) -> Any:
    """The method of a controller extension goes around the controller's of the same name, or around one of its actions.

    A generator runs up to its `yield` before the method, which gives it the ResponseObject afterwards; a plain function is called
    afterwards with `resp_obj`. A returned answer is used instead (and skips the method when the generator has it first).
    """
    if method is None:
        return lambda wrapped: declare(wrapped, extends=True, extends_action=action)
    return declare(method, extends=True)


def window(lowest: str, highest: str | None = None) -> Callable[[Method], Method]:
    """The method is for the microversions from `lowest` to `highest`; further methods of the same name take the others.

    Raises:
        ValueError: two methods of one name claim the same microversion, or one of them has no window.
    """
    span = Window.parse(lowest, highest)

    def decorate(method: Method) -> Method:
        # The class body that is being run: the method defined before under this name is about to be replaced there.
        earlier = sys._getframe(1).f_locals.get(method.__name__)  # noqa: SLF001  (inspect.currentframe is the same, slower)
        windows: tuple[tuple[Window, Callable[..., Any]], ...] = getattr(earlier, _WINDOWS, ())
        if earlier is not None and not windows:
            raise ValueError(f"{method.__qualname__} is defined twice, once without a window")
        for other, _ in windows:
            if span.meets(other):
                raise ValueError(f"{method.__qualname__}: two methods claim a microversion from {span.lowest} on")
        setattr(method, _WINDOWS, (*windows, (span, method)))
        return method

    return decorate


def windows(method: Callable[..., Any]) -> tuple[tuple[Window, Callable[..., Any]], ...]:
    """The functions behind one name, each with its window."""
    found: tuple[tuple[Window, Callable[..., Any]], ...] = getattr(method, _WINDOWS, ())
    return found or ((Window.parse(None, None), method),)
