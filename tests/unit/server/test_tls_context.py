"""The files of TLS: each one that cannot be used is an error that names option, place and file."""

import json
import os
import ssl
import subprocess
import sys

import pytest

from tests.support.certificates import KEY, Authority, openssl

ONE = {"cert_file": "./one.crt", "key_file": "./one.key"}
REFUSED = [
    ({"cert_file": "./none"}, "cert_file", "{pem}/none cannot be read: No such file or directory"),
    ({"cert_file": "./0"}, "cert_file", "{pem}/0 cannot be read: Is a directory"),
    ({"cert_file": "./fifo"}, "cert_file", "{pem}/fifo cannot be read: it is a FIFO"),
    ({"cert_file": "/dev/zero"}, "cert_file", "/dev/zero cannot be read: it is no regular file"),
    ({"cert_file": "/dev/null"}, "cert_file", "/dev/null is no usable PEM certificate"),
    (ONE | {"key_file": "./none"}, "key_file", "{pem}/none cannot be read: No such file or directory"),
    (ONE | {"key_file": "./fifo"}, "key_file", "{pem}/fifo cannot be read: it is a FIFO"),
    (
        ONE | {"key_file": "./two.key"},
        "cert_file",
        "{pem}/one.crt is no usable PEM certificate with the key {pem}/two.key (",
    ),
    (
        {"cert_file": "./one.crt"},
        "cert_file",
        "{pem}/one.crt is no usable PEM certificate: it must hold certificate and key",
    ),
    (ONE | {"key_file": "./locked.key"}, "key_file", "the key {pem}/locked.key needs a passphrase, and a daemon has"),
    ({"cert_file": "./locked.pem"}, "cert_file", "the key {pem}/locked.pem needs a passphrase, and a daemon has"),
    (ONE | {"ciphers": "NOPE"}, "ciphers", "OpenSSL knows no cipher of this list: NOPE"),
    *[
        (ONE | {"ca_file": "./ca", option: f"./{name}"}, option, reason)
        for option, name, reason in [
            ("ca_file", "none", "{pem}/none cannot be read: No such file or directory"),
            ("ca_file", "fifo", "{pem}/fifo cannot be read: it is a FIFO"),
            ("ca_file", "empty", "{pem}/empty holds no certificates in PEM"),
            ("ca_file", "torn", "{pem}/torn holds no certificates in PEM, or a broken one"),
            ("ca_file", "one.key", "{pem}/one.key:1: PRIVATE KEY, where only certificates may be"),
            ("ca_file", "ca+key", "{pem}/ca+key:{next}: PRIVATE KEY, where only certificates may be"),
            (
                "ca_file",
                "ca+crl",
                "{pem}/ca+crl:{next}: X509 CRL, where only certificates may be; revocation lists belong",
            ),
            ("ca_file", "indented", "{pem}/indented:{next}: something stands before -----BEGIN CERTIFICATE-----"),
            ("ca_file", "tail", "{pem}/tail:{next}: the line does not end with -----BEGIN CERTIFICATE-----"),
            ("ca_file", "old-mac", "{pem}/old-mac:{next}: the line does not end with -----BEGIN CERTIFICATE-----"),
            ("ca_file", "bom", "{pem}/bom:1: something stands before -----BEGIN CERTIFICATE-----"),
            ("crl_file", "fifo", "{pem}/fifo cannot be read: it is a FIFO"),
            ("crl_file", "empty", "{pem}/empty holds no revocation lists in PEM"),
            ("crl_file", "ca", "{pem}/ca:1: CERTIFICATE, where only revocation lists may be"),
            ("crl_file", "ca+crl", "{pem}/ca+crl:1: CERTIFICATE, where only revocation lists may be"),
        ]
    ],
]
PLAIN = {"cert_file": "./both.pem", "versions": "TLSv1.3"}
CHECKED = ONE | {"ca_file": "./junk", "crl_file": "./crl"}
ALL = [PLAIN, CHECKED, *(options for options, _, _ in REFUSED)]

INDENTED = "  -----BEGIN CERTIFICATE-----"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A directory with two certificates and their keys, a key with a passphrase, a revocation list, and files that are wrong."""
    at = tmp_path_factory.mktemp("pem")
    for name in ("one", "two"):
        openssl(
            "req",
            "-x509",
            *KEY,
            "-subj",
            "/CN=x",
            "-days",
            "2",
            "-keyout",
            at / f"{name}.key",
            "-out",
            at / f"{name}.crt",
        )
    openssl("pkey", "-in", at / "one.key", "-aes256", "-passout", "pass:x", "-out", at / "locked.key")
    cert, key = (at / "one.crt").read_text(), (at / "one.key").read_text()
    authority = Authority(at, "authority")
    crl, ca = authority.revocation_list(), authority.cert.read_text()
    crlf = cert.replace("\n", "\r\n")
    files = {
        "both.pem": key + cert,
        "locked.pem": cert + (at / "locked.key").read_text(),
        "empty": "",
        "crl": crl,
        "ca": ca,
        "ca+crl": ca + crl,
        "ca+key": ca + authority.key.read_text(),
        "indented": ca + cert.replace("-----BEGIN CERTIFICATE-----", INDENTED),
        "tail": ca + cert.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----- x"),
        "old-mac": ca + cert.replace("\n", "\r"),
        "bom": "\ufeff" + ca,
        "torn": ca + cert[:300],
        "junk": f"subject = x\n{ca}# an old one:\n# -----BEGIN CERTIFICATE-----\n{crlf}\nthe end",
    }
    for name, text in files.items():
        (at / name).write_text(text, newline="")
    os.mkfifo(at / "fifo")
    return at


IN_A_CHILD = """
import json, sys
from apid import conf
from apid.errors import ConfigError
from apid.server import tls_context
told = []
for path in sys.argv[1:]:
    (main,) = conf.load(["--config-file", path], environ={}).listeners
    try:
        made = tls_context.make(main.tls)
    except ConfigError as error:
        told.append(str(error))
    else:
        told.append([made.verify_mode, made.minimum_version, made.verify_flags, made.cert_store_stats()])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def made(pem):
    """What making a context of each text of options gives: an error, or what the context is. Eventlet is for a child only."""
    (pem / "api-paste.ini").write_text("")
    paths = []
    for number, options in enumerate(ALL):
        (pem / str(number)).mkdir()
        paths.append(pem / str(number) / "apid.conf")
        text = "".join(f"{name} = {value.replace('./', f'{pem}/')}\n" for name, value in options.items())
        paths[-1].write_text(f"[ssl]\n{text}[paste_deploy]\nconfig_file = {pem}/api-paste.ini\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_CHILD, *paths], capture_output=True, text=True, check=True
    )
    told = zip(ALL, paths, json.loads(done.stdout), strict=True)
    return {str(options): (path, outcome) for options, path, outcome in told}


@pytest.mark.parametrize(("options", "option", "reason"), REFUSED, ids=str)
def test_what_cannot_be_used(pem, made, options, option, reason):
    path, told = made[str(options)]
    option = option if option in options else "cert_file"
    following = (pem / "ca").read_text().count("\n") + 1
    reason = reason.replace("{pem}", str(pem)).replace("{next}", str(following))
    line, value = list(options).index(option) + 2, options[option].replace("./", f"{pem}/")
    assert told.startswith(f"{path}:{line}: [ssl] {option} = {value}: {reason}")


def test_what_is_loaded(made):
    verify, minimum, _, _ = made[str(PLAIN)][1]
    assert (verify, minimum) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_3)
    verify, _, flags, stored = made[str(CHECKED)][1]
    assert verify == ssl.CERT_REQUIRED
    assert flags & ssl.VERIFY_CRL_CHECK_CHAIN == ssl.VERIFY_CRL_CHECK_CHAIN
    assert stored == {"x509": 2, "x509_ca": 2, "crl": 1}
