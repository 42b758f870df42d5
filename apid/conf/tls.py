"""The ssl options of one listener, checked by loading what they name, as the worker will."""

from __future__ import annotations

import ssl

from apid.conf.settings import Tls
from apid.conf.values import Values


def build_tls(values: Values, group: str) -> Tls | None:
    """Return the TLS settings of a group; None where it has no certificate.

    Raises:
        ConfigError: a file cannot be read, certificate and key are no pair, a cipher list that nobody knows, ssl options
            without a certificate.
    """
    cert, key, authorities, ciphers = (values[group, name] for name in ("cert_file", "key_file", "ca_file", "ciphers"))
    if cert.value is None:
        for other in (key, authorities, ciphers):
            if other.value is not None:
                raise other.error("has no meaning without cert_file")
        return None
    cert.check_readable()
    if key.value is not None:
        key.check_readable()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert.value, key.value, password=_refuse_password)
    except _PassphraseNeeded:
        raise (key if key.value else cert).error(
            "the key needs a passphrase, and a daemon has nobody to ask for one"
        ) from None
    except (ssl.SSLError, OSError) as error:
        pair = (
            f" with the key {key.value}"
            if key.value
            else ": it must hold certificate and key where key_file is not given"
        )
        raise cert.error(f"is no usable PEM certificate{pair} ({error})") from None
    if authorities.value is not None:
        authorities.check_readable()
        try:
            context.load_verify_locations(authorities.value)
        except (ssl.SSLError, OSError) as error:
            raise authorities.error(f"holds no certificates in PEM ({error})") from None
    if ciphers.value is not None:
        try:
            context.set_ciphers(ciphers.value)
        except ssl.SSLError:
            raise ciphers.error("OpenSSL knows no cipher of this list") from None
    return Tls(
        cert.value, key.value or cert.value, authorities.value, tuple(values[group, "versions"].value), ciphers.value
    )


class _PassphraseNeeded(Exception):  # noqa: N818 - control flow inside this file
    pass


def _refuse_password() -> str:
    raise _PassphraseNeeded
