"""The ssl options of one listener. Nothing is opened here: the parent, which may be root, reads no certificate and no key."""

from __future__ import annotations

from apid.conf.settings import Tls
from apid.conf.values import Values


def build_tls(values: Values, group: str) -> Tls | None:
    """Return the TLS settings of a group; None where it has no certificate.

    Raises:
        ConfigError: ssl options that have no meaning without another one.
    """
    given = {name: values[group, name] for name in ("cert_file", "key_file", "ca_file", "crl_file", "ciphers")}
    cert, key, authorities = given["cert_file"], given["key_file"], given["ca_file"]
    if cert.value is None:
        for option in given.values():
            if option.value is not None:
                raise option.error("has no meaning without cert_file")
        return None
    if given["crl_file"].value is not None and authorities.value is None:
        raise given["crl_file"].error("has no meaning without ca_file")
    return Tls(
        cert.value,
        key.value or cert.value,
        authorities.value,
        tuple(values[group, "versions"].value),
        given["ciphers"].value,
        given["crl_file"].value,
        {name: option.where for name, option in given.items()} | ({} if key.value else {"key_file": cert.where}),
    )
