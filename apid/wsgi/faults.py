"""Faults: every way in which a request fails, and the document that says so.

`ApiError` and its subclasses are what controllers raise; `render` turns any exception into an answer in nova's form or in
api-sig's. What an unforeseen exception says stays in the log. Catching (the faultwrap filter) and languages (`catalogue`) live
elsewhere.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from apid.wsgi import answer, requestid
from apid.wsgi.catalogue import DEFAULT, Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

STYLE_KEY = "apid.fault_style"
"""Where in the environ the faultwrap filter puts its style; without it the answer has nova's form."""

HEADERS_KEY = "apid.answer_headers"
"""Where in the environ a router says which headers every answer of its API has."""

NAMES: dict[int, str] = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    421: "misdirectedRequest",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
"""Code to the key of nova's fault document; any other code has the fallback, computeFault."""

GENERIC: dict[int, str] = {
    400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    401: "This server could not verify that you are authorized to access the document you requested.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    405: "The method is not allowed for this resource.",
    406: "The resource cannot be generated in a form that the client accepts.",
    409: "There was a conflict when trying to complete your request.",
    412: "A condition given in the request does not hold.",
    413: "The request body is too large.",
    415: "The media type of the request body is not supported.",
    428: "The request must be conditional.",
    429: "This request was rate-limited.",
    501: "The requested operation is not implemented.",
    503: "The server is currently unavailable. Please try again at a later time.",
}
"""What a fault says when nothing better is known."""
ERRED = "The server has either erred or is incapable of performing the requested operation."


class ApiError(Exception):
    """A failure that the client is told about.

    Args:
        message: for the client; the generic text of the code when empty.
        code: the HTTP status, instead of the class's.
        headers: further headers of the answer.
        error: api-sig's stable name of this error, such as `quota.exceeded`; it never changes once published.
        fields: further members of nova's fault document, such as `details`.

    Attributes:
        safe: whether the text may go to the client. A subclass that wraps foreign errors sets it to False.
    """

    code: int = 500
    safe: bool = True
    error: str = ""
    form: FaultFormat | None = None
    """The form of this fault, whatever the API's is; None for the API's."""

    def __init__(
        self,
        message: object = "",
        *,
        code: int | None = None,
        headers: Mapping[str, object] | None = None,
        error: str = "",
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if error:
            self.error = error
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})


class BadRequest(ApiError):
    """400: the request is malformed or breaks a rule of the API."""

    code = 400


class Unauthorized(ApiError):
    """401: nobody is known to be asking. A WWW-Authenticate header belongs to it (RFC 9110, 15.5.2)."""

    code = 401


class Forbidden(ApiError):
    """403: the one who asks may not. A used-up quota is 403 too (api-sig)."""

    code = 403


class NotFound(ApiError):
    """404: there is no such thing."""

    code = 404


class MethodNotAllowed(ApiError):
    """405: the resource exists and does not know the method. An Allow header belongs to it (RFC 9110, 15.5.6)."""

    code = 405


class NotAcceptable(ApiError):
    """406: no form that the client accepts, or a microversion out of range."""

    code = 406


class Conflict(ApiError):
    """409: the state of the resource does not allow it now."""

    code = 409


class PreconditionFailed(ApiError):
    """412: If-Match did not hold."""

    code = 412


class TooLarge(ApiError):
    """413: the body is larger than allowed."""

    code = 413


class UnsupportedMediaType(ApiError):
    """415: the body is of a kind that the API does not read."""

    code = 415


class PreconditionRequired(ApiError):
    """428: a change without If-Match is refused."""

    code = 428


class RateLimited(ApiError):
    """429: too many requests.

    Args:
        message: which limit it was.
        retry_after: seconds until the next request passes; rounded up, never negative.
    """

    code = 429

    def __init__(self, message: str, retry_after: float) -> None:
        wait = str(max(0, math.ceil(retry_after)))
        super().__init__(GENERIC[429], headers={"Retry-After": wait}, fields={"details": message})


class Unavailable(ApiError):
    """503: something that the API needs is away for now."""

    code = 503


def is_answer(exc: BaseException) -> bool:
    """Tell whether an exception is meant as an answer: one of ours, a Fault, or WebOb's. Any other one is somebody's bug."""
    return isinstance(exc, (ApiError, Fault)) or hasattr(exc, "wsgi_response")


class FaultFormat(Protocol):
    """How a fault looks in JSON."""

    def document(self, fault: Told, request_id: str) -> object:
        """The document of a fault."""
        ...


class Told:
    """What the client is told about an exception: the code, the text, the headers; nothing that it must not see.

    Code and headers of an exception count when it is meant as an answer, or has nova's `safe` beside its `code`. Others have
    attributes of these names too: urllib's HTTPError would pass on what some other server said.
    """

    __slots__ = ("code", "error", "fields", "headers", "language", "message")

    def __init__(self, exc: BaseException, catalogue: Catalogue = DEFAULT, languages: str = "") -> None:
        code = getattr(exc, "code", None) if is_answer(exc) or hasattr(exc, "safe") else None
        known = isinstance(code, int) and 300 <= code <= 599
        self.code: int = code if known and isinstance(code, int) else 500
        self.error = str(getattr(exc, "error", "") or NAMES.get(self.code, "fault"))
        self.fields: dict[str, object] = dict(getattr(exc, "fields", None) or {})
        headers = getattr(exc, "headers", None) if known else None
        self.headers: dict[str, str] = {str(name): str(value) for name, value in dict(headers or {}).items()}
        self.message, self.language = catalogue.translated(self._text(exc, known=known), languages)

    def _text(self, exc: BaseException, *, known: bool) -> object:
        generic = GENERIC.get(self.code, ERRED if self.code >= 500 else "")
        if isinstance(exc, ApiError):
            return (exc.message or generic) if exc.safe else generic
        explanation = getattr(exc, "explanation", None)
        if (
            known and explanation and hasattr(exc, "wsgi_response")
        ):  # webob.exc: its author wrote the text for the client
            return getattr(exc, "detail", None) or explanation
        if known and getattr(exc, "safe", False):
            return f"{type(exc).__name__}: {exc}"
        return generic or ERRED


class NovaFormat:
    """`{"itemNotFound": {"code": 404, "message": "…", "request_id": "req-…"}}`.

    Args:
        fallback: the key for a code without a name of its own.
    """

    def __init__(self, fallback: str = "computeFault") -> None:
        self._fallback = fallback

    def document(self, fault: Told, request_id: str) -> object:
        """The document of a fault."""
        inner: dict[str, object] = {"code": fault.code, "message": fault.message, **fault.fields}
        if fault.code in (413, 429) and "Retry-After" in fault.headers:
            inner["retryAfter"] = fault.headers["Retry-After"]
        inner["request_id"] = request_id
        return {NAMES.get(fault.code, self._fallback): inner}


class ApiSigFormat:
    """`{"errors": [{"request_id", "code", "status", "title", "detail", "links"}]}` of the api-sig guideline on errors.

    Args:
        service_type: stands before the stable name in `code`.
        help_url: a page about errors, for `links`; none when empty.
    """

    def __init__(self, service_type: str = "apid", help_url: str = "") -> None:
        self._service_type = service_type
        self._help_url = help_url

    def document(self, fault: Told, request_id: str) -> object:
        """The document of a fault."""
        entry: dict[str, object] = {
            "request_id": request_id,
            "code": f"{self._service_type}.{fault.error}",
            "status": fault.code,
            "title": answer.status_line(fault.code)[4:],
            "detail": fault.message,
            "links": [{"rel": "help", "href": self._help_url}] if self._help_url else [],
        }
        return {"errors": [{**fault.fields, **entry}]}


class Style(NamedTuple):
    """How faults are told: in which form, and from which catalogue of languages."""

    form: FaultFormat = NovaFormat()
    catalogue: Catalogue = DEFAULT


DEFAULT_STYLE = Style()
_DROPPED = frozenset({"content-type", "content-length", "transfer-encoding"})


def render(exc: BaseException, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request with the fault that an exception stands for.

    An exception without a code of its own is a 500 with a fixed text; logging it is for the one who caught it.
    """
    style: Style = environ.get(STYLE_KEY) or DEFAULT_STYLE
    told = Told(exc, style.catalogue, environ.get("HTTP_ACCEPT_LANGUAGE", ""))
    request_id = requestid.of(environ)
    form = getattr(exc, "form", None) or style.form
    body = answer.json_bytes(form.document(told, request_id))
    headers = [("Content-Type", "application/json; charset=UTF-8")]
    headers += [(name, answer.one_line(value)) for name, value in told.headers.items() if name.lower() not in _DROPPED]
    if told.language:  # the same request in another language has another answer (RFC 9110, 12.5.5)
        headers += [("Content-Language", told.language), ("Vary", "Accept-Language")]
    headers.append((requestid.HEADER, request_id))
    headers.extend(environ.get(HEADERS_KEY, ()))
    if told.code in answer.BODILESS:
        return answer.send(start_response, told.code, headers[1:])
    headers.append(("Content-Length", str(len(body))))
    start_response(answer.status_line(told.code), headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


class Fault(Exception):
    """An exception as a WSGI application, as nova has it: `raise Fault(webob.exc.HTTPNotFound())` or `return Fault(error)`."""

    def __init__(self, exception: BaseException) -> None:
        super().__init__(str(exception))
        self.wrapped_exc = exception
        self.status_int = self.code = Told(exception).code
        self.headers = getattr(exception, "headers", {})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the fault."""
        return render(self.wrapped_exc, environ, start_response)
