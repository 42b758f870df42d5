"""Version documents: what a client reads to find its way (api-sig, version discovery).

`VersionsApp` is the list at the root of a service, `document` the entry of one version at its own mount. Which versions there
are is the API's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apid.wsgi import answer, faults, links

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

STATUSES = ("CURRENT", "SUPPORTED", "DEPRECATED", "EXPERIMENTAL")
NO_CACHE = ("Cache-Control", "no-cache")
"""200 and 300 may be kept by a cache unless told otherwise (RFC 9110, 15.1)."""
_ID = re.compile(r"v\d{1,2}(?:\.\d{1,2})?", re.ASCII)


@dataclass(frozen=True)
class Version:
    """One version of an API.

    Args:
        id: `v1` or `v1.0`, also the name of its mount unless `path` says another.
        status: CURRENT, SUPPORTED, DEPRECATED or EXPERIMENTAL.
        updated: when it last changed, ISO 8601 with its zone.
        min_version: the oldest microversion; empty without microversions.
        max_version: the newest microversion; empty without microversions.
        path: the mount, such as `/v1`.
        described_by: the address of a page for people; none when empty.
        service_type: for the media type of the version.
    """

    id: str
    status: str = "CURRENT"
    updated: str = ""
    min_version: str = ""
    max_version: str = ""
    path: str = ""
    described_by: str = ""
    service_type: str = "apid"

    def __post_init__(self) -> None:
        """Refuse what a client could not read.

        Raises:
            ValueError: the id or the status is none.
        """
        if not _ID.fullmatch(self.id):
            raise ValueError(f"version id {self.id!r}: want v1 or v1.0")
        if self.status not in STATUSES:
            raise ValueError(f"version {self.id}: status {self.status!r}; it can be {', '.join(STATUSES)}")

    @property
    def mount(self) -> str:
        """The path of this version, without a slash at the end."""
        return (self.path or f"/{self.id}").rstrip("/")

    def entry(self, base: str) -> dict[str, Any]:
        """This version in a list of versions.

        Args:
            base: the address of the service's root.
        """
        return {
            "id": self.id,
            "status": self.status,
            "updated": self.updated,
            "version": self.max_version,
            "max_version": self.max_version,
            "min_version": self.min_version,
            "links": [{"rel": "self", "href": f"{base}{self.mount}/"}],
        }

    def media_types(self) -> list[dict[str, str]]:
        """The media types that name this version."""
        number = self.id[1:].partition(".")[0]
        return [
            {"base": "application/json", "type": f"application/vnd.openstack.{self.service_type}+json;version={number}"}
        ]

    def document(self, base: str) -> dict[str, Any]:
        """This version alone, as its own mount answers.

        Args:
            base: the address of the service's root.
        """
        entry = self.entry(base)
        entry["links"].append({"rel": "collection", "href": f"{base}/"})
        if self.described_by:
            entry["links"].append({"rel": "describedby", "type": "text/html", "href": self.described_by})
        entry["media-types"] = self.media_types()
        return {"version": entry}


class VersionsApp:
    """The root of a service: the list of its versions, and the choices for one that does not exist.

    Args:
        versions: all of them; exactly one is CURRENT.
        code: the status of the list, 300 as in glance or 200 as in nova.
        public_endpoint: what clients see instead of scheme and host.

    Raises:
        ValueError: not exactly one version is CURRENT, or the code is neither.
    """

    def __init__(self, versions: Sequence[Version], code: int = 300, public_endpoint: str = "") -> None:
        current = [version.id for version in versions if version.status == "CURRENT"]
        if len(current) != 1:
            raise ValueError(f"exactly one version must be CURRENT; these are: {', '.join(current) or 'none'}")
        if code not in (200, 300):
            raise ValueError(f"the list of versions is answered with 200 or 300, not {code}")
        self.versions = tuple(sorted(versions, key=lambda version: version.id))
        self._code = code
        self._public_endpoint = public_endpoint

    def apid_routes(self) -> list[tuple[tuple[str, ...], str, str]]:
        """What this application answers, for `apid --check-config`."""
        return [(("GET",), "/", "versions"), (("GET",), "/versions", "versions")]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the list, with the choices, or with a fault."""
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        listed = path in ("", "/", "/versions", "/versions/")
        if not listed and not _ID.fullmatch(first):
            return faults.render(faults.NotFound(), environ, start_response)
        if method == "OPTIONS":
            return answer.send(start_response, 204, [("Allow", "GET, HEAD, OPTIONS")])
        base = links.application_url(environ, self._public_endpoint)
        if not listed:
            choices = {"choices": [self._choice(version, base, path) for version in self.versions]}
            return answer.send_json(environ, start_response, 300, choices, [NO_CACHE])
        if method not in ("GET", "HEAD"):
            error = faults.MethodNotAllowed(headers={"Allow": "GET, HEAD, OPTIONS"})
            return faults.render(error, environ, start_response)
        document = {"versions": [version.entry(base) for version in self.versions]}
        code = 200 if path.startswith("/versions") else self._code
        return answer.send_json(environ, start_response, code, document, [NO_CACHE])

    def _choice(self, version: Version, base: str, path: str) -> dict[str, Any]:
        """One version with the address that the client may have meant."""
        rest = path.split("/", 2)[2] if path.count("/") > 1 else ""
        return {
            "id": version.id,
            "status": version.status,
            "links": [{"rel": "self", "href": f"{base}{version.mount}/{links.quoted(rest)}"}],
            "media-types": version.media_types(),
        }
