"""Microversions: which version of the API one request asks for, and the headers that say which it got.

The header is api-sig's `OpenStack-API-Version: <service-type> X.Y`; a service's legacy header is read second. What a version
changes is declared on the controllers (`controller.window`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from apid.wsgi import faults

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

KEY = "apid.api_version"
"""Where in the environ the version of a request is, an `APIVersion`."""
HEADER = "OpenStack-API-Version"
_VERSION = re.compile(r"([1-9][0-9]{0,5})\.([1-9][0-9]{0,5}|0)", re.ASCII)


class APIVersion(NamedTuple):
    """A microversion; later ones are greater."""

    major: int
    minor: int

    def __str__(self) -> str:
        """As in the header."""
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> APIVersion:
        """Read `X.Y`.

        Raises:
            ValueError: it is not of this form.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a microversion such as 1.4")
        return cls(int(match[1]), int(match[2]))


class Window(NamedTuple):
    """The microversions from `lowest` to `highest`, both included; no end where `highest` is None."""

    lowest: APIVersion
    highest: APIVersion | None

    @classmethod
    def parse(cls, lowest: str | None, highest: str | None) -> Window:
        """Read a window from the two texts of a decorator."""
        window = cls(
            APIVersion.parse(lowest) if lowest else APIVersion(0, 0), APIVersion.parse(highest) if highest else None
        )
        if window.highest is not None and window.highest < window.lowest:
            raise ValueError(f"the window {lowest} to {highest} is empty")
        return window

    def holds(self, version: APIVersion | None) -> bool:
        """Tell whether a version is inside; without microversions only an open window is."""
        if version is None:
            return self.highest is None
        return self.lowest <= version and (self.highest is None or version <= self.highest)

    def meets(self, other: Window) -> bool:
        """Tell whether the two have a version in common."""
        return (self.highest is None or other.lowest <= self.highest) and (
            other.highest is None or self.lowest <= other.highest
        )


class Microversions:
    """The range of one service.

    Args:
        service_type: the service's name in the header.
        lowest: the oldest version, which a request without a header gets.
        highest: the newest, which `latest` means.
        legacy_header: such as `X-OpenStack-Nova-API-Version`, whose value is the bare version; none when empty.
    """

    def __init__(self, service_type: str, lowest: str, highest: str, *, legacy_header: str = "") -> None:
        self.service_type = service_type
        self.lowest = APIVersion.parse(lowest)
        self.highest = APIVersion.parse(highest)
        self.legacy_header = legacy_header
        self._environ_name = "HTTP_" + HEADER.upper().replace("-", "_")
        self._legacy_name = "HTTP_" + legacy_header.upper().replace("-", "_") if legacy_header else ""
        self._key = f"{service_type}.microversion"
        self._lowest_headers = self._headers(self.lowest)

    def all(self) -> list[APIVersion]:
        """Every version, as far as the range tells: the first and the last where it spans several major ones."""
        low, high = self.lowest, self.highest
        if low.major != high.major:
            return [low, high]
        return [APIVersion(low.major, minor) for minor in range(low.minor, high.minor + 1)]

    def wanted(self, environ: WSGIEnvironment) -> APIVersion:
        """The version that a request asks for; stored in the environ.

        Raises:
            BadRequest: the header names this service with something that is not a version.
            NotAcceptable: the version is outside the range; the fault says which.
        """
        environ[faults.HEADERS_KEY] = self._lowest_headers
        text = ""
        header = environ.get(self._environ_name)
        if header:
            for item in header.split(","):  # a proxy may fold several headers into one; the last one counts
                words = item.split(None, 1)
                if words and words[0].lower() == self.service_type:
                    text = words[1].strip() if len(words) > 1 else "?"
        if not text and self._legacy_name:
            text = environ.get(self._legacy_name, "").split(",")[-1].strip()
        version = self._version(text) if text else self.lowest
        environ[KEY] = environ[self._key] = version
        environ[faults.HEADERS_KEY] = self._headers(version)
        return version

    def _version(self, text: str) -> APIVersion:
        if text == "latest":
            return self.highest
        try:
            version = APIVersion.parse(text)
        except ValueError:
            raise faults.BadRequest(
                f"The microversion {text[:32]!r} is malformed: want X.Y or 'latest'.", error="microversion.malformed"
            ) from None
        if not self.lowest <= version <= self.highest:
            span = {"min_version": str(self.lowest), "max_version": str(self.highest)}
            refusal = faults.NotAcceptable(
                f"Version {version} is not supported by the API. Minimum is {self.lowest} and maximum is {self.highest}.",
                error="microversion.unsupported",
                fields=span,
            )
            refusal.form = faults.ApiSigFormat(self.service_type)  # api-sig's errors carry min and max, in every API
            raise refusal
        return version

    def _headers(self, version: APIVersion) -> tuple[tuple[str, str], ...]:
        """The headers of every answer made in a version (api-sig)."""
        varied = f"{HEADER}, {self.legacy_header}" if self.legacy_header else HEADER
        own = ((HEADER, f"{self.service_type} {version}"), ("Vary", varied))
        return (*own, (self.legacy_header, str(version))) if self.legacy_header else own

    def echo(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """A start_response that adds to every answer the version it was made in.

        A fault that is written further out, where this start_response is not in the way, takes the headers from the environ.
        """

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            told: tuple[tuple[str, str], ...] = environ[faults.HEADERS_KEY]
            if told[0] not in headers:
                headers.extend(told)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return start
