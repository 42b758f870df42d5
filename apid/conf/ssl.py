"""[ssl]: certificates and protocol versions of the main listener; the same options exist in each [listener:NAME]."""

from __future__ import annotations

from oslo_config import cfg

from apid.conf.declare import option
from apid.conf.types import Choices, FilePath, Text

VERSIONS = ("TLSv1.2", "TLSv1.3")

GROUP = cfg.OptGroup("ssl", help="TLS of the main listener. Without cert_file it speaks plain HTTP.")


def tls_opts(*, old_names: bool) -> list[cfg.Opt]:
    """Return the options; with the spellings of older servers, or (for a further listener) without."""

    def aliases(name: str) -> tuple[str, ...]:
        return (f"DEFAULT/{name}", f"wsgi/ssl_{name}") if old_names else ()

    return [
        option(
            "cert_file",
            FilePath(),
            None,
            "Certificate chain in PEM. Read again at each reload.",
            *aliases("cert_file"),
        ),
        option(
            "key_file",
            FilePath(),
            None,
            "Private key in PEM, without a passphrase. The default is cert_file, for files that hold both.",
            *aliases("key_file"),
        ),
        option(
            "ca_file",
            FilePath(),
            None,
            "Certificates in PEM of the authorities that must have signed a client's certificate. Without it none is asked for.",
            *aliases("ca_file"),
        ),
        option(
            "crl_file",
            FilePath(),
            None,
            "Revocation lists in PEM, one of each authority in ca_file. A client is refused if its certificate is revoked, or if "
            "its authority has no list or only one that is out of date. Read again at each reload.",
        ),
        option(
            "versions",
            Choices(*VERSIONS),
            VERSIONS,
            "Protocol versions to speak, separated by commas.",
        ),
        option("ciphers", Text(), None, "Cipher list for TLSv1.2, as in ciphers(1ssl). The default is Python's."),
    ]


OPTS = tls_opts(old_names=True)
