"""faultwrap: the last line. Whatever escapes the application becomes a JSON fault; its traceback goes to the log only.

It also says in which form all faults below it are written (nova's or api-sig's) and in which languages.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from apid.wsgi import faults, kinds, requestid
from apid.wsgi.catalogue import Catalogue
from apid.wsgi.factory import filter_factory, option
from apid.wsgi.routelist import routes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    format: str = option(
        kinds.choice("nova", "api-sig"), default="nova", help="The form of all faults below the filter."
    )
    fallback: str = option(kinds.word, default="computeFault", help="nova's key for a code without a name of its own.")
    service_type: str = option(kinds.word, default="apid", help="What stands before the dot in api-sig's error codes.")
    help_url: str = option(kinds.text, default="", help="A page about errors, for api-sig's links.")
    locale_dir: str = option(
        kinds.text, default="", help="The directory of gettext catalogues; gettext's own when empty."
    )
    locale_domain: str = option(kinds.word, default="apid", help="The name of the catalogues.")


_DEFAULTS = Options()


class FaultWrapper:
    """A filter that answers for an application that raises."""

    def __init__(self, application: WSGIApplication, options: Options = _DEFAULTS) -> None:
        self.application = application
        form: faults.FaultFormat = faults.NovaFormat(options.fallback)
        if options.format == "api-sig":
            form = faults.ApiSigFormat(options.service_type, options.help_url)
        self._style = faults.Style(form, Catalogue(options.locale_dir or None, options.locale_domain))

    @classmethod
    def factory(cls, global_conf: Mapping[str, str], **local_conf: str) -> Callable[[WSGIApplication], WSGIApplication]:
        """Make the filter for Paste Deploy, in nova's spelling: `paste.filter_factory = ...:FaultWrapper.factory`.

        Raises:
            OptionError: an option is unknown or has a bad value.
        """
        return factory(global_conf, **local_conf)

    def apid_routes(self) -> list[tuple[tuple[str, ...], str, str]]:
        """The routes of the application behind."""
        return routes_of(self.application)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on; answer for what escapes, also before the first byte of a lazy body."""
        environ[faults.STYLE_KEY] = self._style
        try:
            body = self.application(environ, start_response)
        except Exception as exc:  # noqa: BLE001  (to catch everything is what this filter is for)
            return self._answer(exc, environ, start_response)
        if type(body) is list or type(body) is tuple:
            return body
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            return body  # the server sends the file itself, if it sees its own wrapper (PEP 3333)
        return _Guarded(body, self, environ, start_response)

    def _answer(self, exc: Exception, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if any(getattr(environ.get(key), "failure", None) is exc for key in ("wsgi.input", "eventlet.input")):
            # The content cannot be read, says the server: broken framing, a client that has left or is too slow. That is no fault
            # of the application's, and the server knows the answer.
            raise exc
        if not faults.is_answer(exc):
            method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
            log.error("%s: %s %r failed", requestid.of(environ), method, path, exc_info=exc)

        def start(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Callable[[bytes], object]:
            # start_response may have been called already; PEP 3333 lets it be called again with exc_info
            if exc.__traceback__ is None:
                return start_response(status, headers)
            return start_response(status, headers, (type(exc), exc, exc.__traceback__))

        return faults.render(exc, environ, start)


class _Guarded:
    """A lazy body: an error before its first byte is a fault; later ones are the server's to cut off."""

    def __init__(
        self, body: Iterable[bytes], wrapper: FaultWrapper, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._body = body
        self._iterator = iter(body)
        self._first = True
        self._wrapper, self._environ, self._start_response = wrapper, environ, start_response

    def __iter__(self) -> _Guarded:
        return self

    def __next__(self) -> bytes:
        if not self._first:
            return next(self._iterator)
        self._first = False
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as exc:  # noqa: BLE001  (as above)
            self._iterator = iter(self._wrapper._answer(exc, self._environ, self._start_response))  # noqa: SLF001  (its other half)
            return next(self._iterator)

    def close(self) -> None:
        """Close the application's body."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


factory = filter_factory("faultwrap", Options, FaultWrapper)
