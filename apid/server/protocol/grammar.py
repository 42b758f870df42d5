"""The pieces of RFC 9110/9112 grammar that more than one parser needs: octets, field lines, field names.

Patterns and tables only; what is refused with which status is decided where they are used (request_head.py, request_line.py,
chunked.py).
"""

from __future__ import annotations

import re

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # noqa: S105 -- RFC 9110 §5.6.2 tchar, no password
"""RFC 9110 §5.6.2 tchar, for use in patterns."""

is_token = re.compile(f"{TOKEN}+").fullmatch

# A CR counts as bare only once the next octet is known, so that the answer does not depend on where the stream was cut.
ILLEGAL_IN_FIELD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")
"""What no field line may hold: CTL (RFC 9110 §5.5), CR and LF not in pairs (RFC 9112 §2.2). HTAB and obs-text may stay."""

ILLEGAL_IN_REQUEST_LINE = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\xff]|\r(?=[^\n])|(?<!\r)\n")
"""The same for a request line: no HTAB (RFC 9112 §3: single SP) and, a URI being ASCII (RFC 3986 §2), nothing above 0x7e."""

FIELD_LINE = re.compile(rf"({TOKEN}++):(.*+)", re.DOTALL)
"""RFC 9112 §5, on one line without its CRLF whose octets are known to be legal."""


def why_no_field(line: str) -> str:
    """Say what is wrong with a line that does not match FIELD_LINE."""
    if line[0] in " \t":
        # RFC 9112 §2.2 (before the first field) and §5.2 (obs-fold)
        return "a line that begins with whitespace"
    name, colon, _ = line.partition(":")
    if not colon:
        return "a field line without a colon"
    if name.rstrip(" \t") != name:
        return "whitespace between a field name and its colon"  # RFC 9112 §5.1
    return "a field name that is not a token"


def environ_key(name: str) -> str | None:
    """Give the environ key of a field name that is a token, or None where the field is dropped.

    A name with an underscore would fall together with the same name spelt with a hyphen (`X_Auth_Token`): an application
    behind a proxy that strips only the one spelling would trust the other. So it is dropped (as nginx and eventlet do).
    """
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in _BARE else "HTTP_" + key


_BARE = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})

# The names clients really send, in the two spellings they use, so that the ordinary request needs one look-up a field. The
# table never grows: a learned cache would be state an attacker can fill.
_COMMON = """
accept accept-charset accept-encoding accept-language authorization cache-control connection content-encoding
content-language content-length content-type cookie date dnt expect forwarded from host if-match if-modified-since
if-none-match if-range if-unmodified-since keep-alive max-forwards openstack-api-version origin pragma priority range
referer sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user
te traceparent tracestate trailer transfer-encoding upgrade upgrade-insecure-requests user-agent via warning
x-auth-token x-container-meta-access-control-allow-origin x-forwarded-for x-forwarded-host x-forwarded-port
x-forwarded-prefix x-forwarded-proto x-newest x-object-manifest x-object-meta-mtime x-openstack-nova-api-version
x-openstack-request-id x-project-id x-real-ip x-request-id x-requested-with x-roles x-service-token x-subject-token
x-tenant-id x-timestamp x-trans-id x-user-id
"""


def _spellings() -> dict[str, str]:
    table = {}
    for name in _COMMON.split():
        key = environ_key(name)
        assert key is not None  # noqa: S101 -- a fault in the list above, not in anything that comes in
        special = {"te": "TE", "dnt": "DNT", "openstack-api-version": "OpenStack-API-Version"}.get(name, name)
        for spelling in (name, name.title(), special):
            table[spelling] = key
    table["X-OpenStack-Nova-API-Version"] = table["x-openstack-nova-api-version"]
    table["X-OpenStack-Request-ID"] = table["X-OpenStack-Request-Id"] = table["x-openstack-request-id"]
    return table


ENVIRON_KEYS = _spellings()
"""Field name as spelt by clients -> environ key, for the names that occur often."""
