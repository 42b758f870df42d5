"""The TLS context of a listener, made of the files that the ssl options name.

A worker makes it after it has dropped its privileges, and so does a trial: what the workers' user cannot read is refused by
--check-config, a reload and a start alike. The parent, which may be root, opens none of these files.
"""

from __future__ import annotations

import importlib.util
import re
import ssl
import sys
from types import ModuleType
from typing import Any

from apid.conf import text
from apid.conf.settings import Tls
from apid.errors import ConfigError


def _unpatched() -> ModuleType:
    """Load a copy for ourselves: in the shared module, monkey-patching replaces SSLContext, whose setters then recurse."""
    spec = importlib.util.spec_from_file_location("apid.server.ssl", ssl.__file__)
    if spec is None or spec.loader is None:
        raise ImportError("ssl")
    copy = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its enumerations look for their own module
    spec.loader.exec_module(copy)
    return copy


_plain_ssl = _unpatched()

_BEGIN = re.compile(rb"^([ \t\v\f\r]*|\xef\xbb\xbf)-----BEGIN ([^\n-]*)([^\n]*)", re.MULTILINE)
_CERTIFICATES = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})
_LISTS = frozenset({"X509 CRL"})


def make(settings: Tls) -> Any:
    """Return an `ssl.SSLContext` of the module that eventlet has not replaced.

    Raises:
        ConfigError: a file cannot be read or is not what it should be, or a version or cipher is unknown; the text names option,
            place and file.
    """
    context = _plain_ssl.SSLContext(_plain_ssl.PROTOCOL_TLS_SERVER)
    try:
        versions = [_plain_ssl.TLSVersion[version.replace(".", "_")] for version in settings.versions]
    except KeyError as unknown:
        raise _error(settings, "versions", f"{unknown} is unknown; there are TLSv1.2 and TLSv1.3") from None
    if versions:
        context.minimum_version, context.maximum_version = min(versions), max(versions)
    _load_certificate(context, settings)
    if settings.ca_file is not None:
        _load(context, settings, "ca_file", settings.ca_file, _CERTIFICATES)
        context.verify_mode = ssl.CERT_REQUIRED
    if settings.crl_file is not None:
        _load(context, settings, "crl_file", settings.crl_file, _LISTS)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            reason = f"OpenSSL knows no cipher of this list: {settings.ciphers}"
            raise _error(settings, "ciphers", reason) from None
    context.options |= ssl.OP_NO_RENEGOTIATION  # what a client has proved holds for the whole connection
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_certificate(context: Any, settings: Tls) -> None:
    _read(settings, "cert_file", settings.cert_file)
    _read(settings, "key_file", settings.key_file)
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_refuse_password)
    except _PassphraseNeeded:
        reason = f"the key {settings.key_file} needs a passphrase, and a daemon has nobody to ask for one"
        raise _error(settings, "key_file", reason) from None
    except (ssl.SSLError, OSError, ValueError) as error:
        key = f" with the key {settings.key_file}"
        if settings.key_file == settings.cert_file:
            key = ": it must hold certificate and key where key_file is not given"
        reason = f"{settings.cert_file} is no usable PEM certificate{key} ({error})"
        raise _error(settings, "cert_file", reason) from None


def _load(context: Any, settings: Tls, option: str, path: str, wanted: frozenset[str]) -> None:
    """Load certificates or revocation lists, and nothing but them.

    OpenSSL takes both from either file, skips other blocks, and skips a block whose first line is indented or goes on after its
    dashes: a list that is not checked, or an authority that is missing, would go unnoticed.
    """
    data = _read(settings, option, path)
    what = "certificates" if wanted is _CERTIFICATES else "revocation lists"
    for found in _BEGIN.finditer(data):
        number = data.count(b"\n", 0, found.start()) + 1
        line = f"{path}:{number}"
        label = found[2].decode("latin-1")
        if label not in wanted:
            hint = "; revocation lists belong into crl_file" if label in _LISTS else ""
            raise _error(settings, option, f"{line}: {text.show(label)}, where only {what} may be{hint}")
        if found[1]:
            raise _error(settings, option, f"{line}: something stands before -----BEGIN {label}-----: remove it")
        if found[3].rstrip() != b"-----":
            raise _error(settings, option, f"{line}: the line does not end with -----BEGIN {label}-----")
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise _error(settings, option, f"{path} holds no {what} in PEM, or a broken one ({error})") from None


def _read(settings: Tls, option: str, path: str) -> bytes:
    try:
        return text.content(path)
    except OSError as error:
        raise _error(settings, option, text.unreadable(path, error)) from None


def _error(settings: Tls, option: str, reason: str) -> ConfigError:
    return ConfigError(f"{settings.where.get(option, f'[ssl] {option}')}: {reason}")


class _PassphraseNeeded(Exception):  # noqa: N818 - control flow inside this file
    pass


def _refuse_password() -> str:
    raise _PassphraseNeeded
