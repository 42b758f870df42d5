"""The ResponseObject: what a controller's method returns when it has more to say than a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ResponseObject:
    """A document with a status and headers, for a method that has more to say than its document.

    Args:
        obj: the document; None for no body.
        code: the status; the method's declared one when None.
        headers: further headers.
    """

    def __init__(self, obj: Any = None, code: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.obj = obj
        self.code = code
        self.headers: dict[str, str] = dict(headers or {})

    def __repr__(self) -> str:
        """For logs."""
        return f"<ResponseObject {self.code} {sorted(self.headers)}>"
