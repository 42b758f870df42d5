"""Certificate authorities, certificates and revocation lists, made by openssl(1)."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Sequence

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LONG_AGO = ("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")

SETTINGS = """
[ca]
default_ca = own
[own]
database = {0}/index.txt
crlnumber = {0}/number
default_md = sha256
default_crl_days = 2
"""


class Authority:
    """An authority in a directory of its own.

    Args:
        directory: where its files go.
        name: the subject, as `-subj` takes it, and the beginning of its files' names.
        parent: who signs its certificate; itself by default.
    """

    def __init__(self, directory: pathlib.Path, name: str, parent: Authority | None = None) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.key, self.cert = self.directory / "ca.key", self.directory / "ca.pem"
        (self.directory / "index.txt").touch()
        (self.directory / "number").write_text("01\n")
        self.settings = self.directory / "ca.cnf"
        self.settings.write_text(SETTINGS.format(self.directory))
        if parent is None:
            openssl("req", "-x509", *KEY, "-subj", f"/CN={name}", "-days", "2", "-keyout", self.key, "-out", self.cert)
        else:
            cert, self.key = parent.issue(f"/CN={name}", name=name, extensions="basicConstraints=critical,CA:TRUE")
            self.cert.write_bytes(cert.read_bytes())

    def issue(
        self,
        subject: str,
        *,
        name: str = "client",
        options: Sequence[str] = (),
        signing: Sequence[str] = (),
        extensions: str = "basicConstraints=CA:FALSE",
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Return the paths of a new certificate and its key; `options` are of `req`, `signing` of `x509 -req`."""
        request, cert, key, more = (self.directory / f"{name}.{kind}" for kind in ("csr", "pem", "key", "ext"))
        more.write_text(extensions + "\n")
        openssl("req", *KEY, "-utf8", "-subj", subject, *options, "-keyout", key, "-out", request)
        openssl(
            "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
            "-extfile", more, *signing, "-out", cert,
        )  # fmt: skip
        return cert, key

    def revoke(self, cert: pathlib.Path) -> None:
        """Enter a certificate into the lists to come."""
        self._ca("-revoke", cert)

    def revocation_list(self, *options: str) -> str:
        """Return a list in PEM of what has been revoked; `options` are of `ca -gencrl`."""
        return self._ca("-gencrl", *options)

    def _ca(self, *arguments: object) -> str:
        return openssl("ca", "-config", self.settings, "-cert", self.cert, "-keyfile", self.key, *arguments)


def openssl(*arguments: object) -> str:
    """Run openssl; returns what it prints."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
