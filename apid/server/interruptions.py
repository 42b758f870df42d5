"""What ends a request from outside the application, and what it is told by."""

from __future__ import annotations


class ClientGone(ConnectionResetError):  # noqa: N818 -- what happened has a name in this house
    """The client has left while it was being read from or answered."""


class ClientSlow(TimeoutError):  # noqa: N818 -- as above
    """The client has not sent or taken anything worth mentioning for client_socket_timeout."""


class RequestTimeout(BaseException):
    """Thrown into a request that takes longer than request_timeout; no Exception, so that `except Exception` lets it pass."""


class Cut(BaseException):
    """Thrown into a request when the deadline of a drain is over."""
