"""What the configuration shall say: one frozen value, and the files that say it."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess

from tests.support.daemon import Options, config_text

FORMAT = "%(path)s %(status_code)d %(pid)d."
"""Of the access log. The dot ends a complete line."""

PASTE = """[app:main]
paste.app_factory = chaos_application:factory
records = {records}
"""

MODULE = """from tests.chaos.application import Application

VERSION = {version}


def factory(global_conf, records):
    return Application(VERSION, records)
"""

EXTRA = ("second", "secure", "local")
"""Listeners beside `main`: TCP, TLS over TCP, UNIX."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """A configuration. `more` are further options of [DEFAULT], as pairs."""

    version: int = 1
    workers: int = 2
    engine: str = "eventlet"
    preload: str = "auto"
    extra: frozenset[str] = frozenset({"secure", "local"})
    access_log: str = "access-0.log"
    log_file: str = ""
    pid_file: str = "pid-0"
    control_socket: str = "control-0"
    more: tuple[tuple[str, object], ...] = ()


class Files:
    """The directory of a session and the files in it.

    Attributes:
        ports: of the listeners on TCP; outside the ephemeral range, or a client's own port might be in the way.
    """

    def __init__(self, directory: pathlib.Path, ports: dict[str, int]) -> None:
        self.directory = directory
        self.ports = ports
        self.config = directory / "apid.conf"
        self.paste = directory / "api-paste.ini"
        self.module = directory / "chaos_application.py"
        self.certificate = directory / "certificate.pem"
        self.records = directory / "records"
        self.small = directory / "small"
        """A small file system of its own, where mounting is allowed."""
        self.small.mkdir()
        self.make_certificate()

    def make_certificate(self) -> None:
        """Make a new self-signed certificate, with its key in the same file."""
        key, cert = self.directory / "key", self.directory / "cert"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
        subprocess.run(command, check=True, capture_output=True)
        self.replace(self.certificate, cert.read_text(encoding="ascii") + key.read_text(encoding="ascii"))

    def replace(self, path: pathlib.Path, text: str) -> None:
        """Write a file and put it in the place of the old one at once, as a deployment does."""
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.rename(path)

    def address(self, listener: str) -> tuple[str, int] | str:
        """Where a listener listens: (host, port), or the path of a UNIX socket."""
        return str(self.directory / "local.sock") if listener == "local" else ("127.0.0.1", self.ports[listener])

    def write(self, wish: Wish) -> None:
        """Write all files of the wish."""
        self.replace(self.config, self.text(wish))
        self.replace(self.paste, PASTE.format(records=self.records))
        self.replace(self.module, MODULE.format(version=wish.version))

    def text(self, wish: Wish, **changed: object) -> str:
        """Return the text of apid.conf for the wish; `changed` are options of [DEFAULT] that differ."""
        options: dict[str, object] = {
            "bind": self._bind("main"),
            "listeners": ", ".join(sorted(wish.extra)),
            "workers": wish.workers,
            "engine": wish.engine,
            "preload": wish.preload,
            "access_log": self.directory / wish.access_log,
            "access_log_format": FORMAT,
            "log_file": self.directory / wish.log_file if wish.log_file else None,
            "pid_file": self.directory / wish.pid_file if wish.pid_file else None,
            "control_socket": self.directory / wish.control_socket,
            **dict(wish.more),
            **changed,
        }
        # Named: without a name and without the file, the default API would be served.
        sections: dict[str, Options] = {"paste_deploy": {"config_file": self.paste}}
        sections |= {f"listener:{name}": {"bind": self._bind(name)} for name in sorted(wish.extra)}
        if "secure" in wish.extra:
            sections["listener:secure"] = {"bind": self._bind("secure"), "cert_file": self.certificate}
        return config_text({name: value for name, value in options.items() if value is not None}, sections)

    def _bind(self, listener: str) -> str:
        address = self.address(listener)
        return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
