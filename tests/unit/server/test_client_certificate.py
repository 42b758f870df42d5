"""Names of client certificates: RFC 4514's text, held against openssl(1), and nothing of it can be taken for something else."""

import contextlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apid.server.client_certificate import describe

UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 12, 19, 20, 22, 28, 30
CN, O, OU, EMAIL, DC, SERIAL = "2.5.4.3", "2.5.4.10", "2.5.4.11", "1.2.840.113549.1.9.1", "0.9.2342.19200300.100.1.25", "2.5.4.5"  # noqa: E741 - X.520's name  # fmt: skip
ALGORITHM = bytes.fromhex("300d06092a864886f70d01010b0500")
KEY = bytes.fromhex("301b300d06092a864886f70d0101010500030a003007020201010201 03")


def der(tag, *content):
    data = b"".join(content)
    size = len(data)
    if size < 0x80:
        return bytes([tag, size]) + data
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + data


def oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    out = b""
    for number in (40 * first + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(number & 0x7F | 0x80)
        out += bytes(septets[::-1])
    return der(6, out)


def attribute(kind, tag, value):
    return der(0x30, oid(kind), der(tag, value))


def name(*rdns):
    """Make a Name of RDNs, which are lists of attributes."""
    return der(0x30, *[der(0x31, *sorted(attribute(*each) for each in rdn)) for rdn in rdns])


def certificate(subject, issuer=None, serial=b"\1", version=b"\xa0\3\2\1\2"):
    validity = der(0x30, der(23, b"200101000000Z"), der(23, b"400101000000Z"))
    body = version + der(2, serial) + ALGORITHM + (issuer or subject) + validity + subject + KEY
    return der(0x30, der(0x30, body), ALGORITHM, der(3, b"\0"))


def told(data):
    """Return subject, issuer and serial number as openssl writes them."""
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-nameopt", "RFC2253", "-subject", "-issuer", "-serial"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line.partition("=")[0]: line.partition("=")[2] for line in done.stdout.decode("ascii").splitlines()}


def check(data):
    found, expected = describe(data), told(data)
    assert found["SSL_CLIENT_S_DN"] == expected["subject"]
    assert found["SSL_CLIENT_I_DN"] == expected["issuer"]
    assert all(text.isascii() and (not text or text.isprintable()) for text in found.values())


ODD = [b"", b" ", b"  ", b"a ", b" a", b"#a", b"a#", b"a=b", b"x,commonName=root", b"x+O=root", b'"q"', b"a\\", b"<a>;b", b"a\0b",
       b"a\r\nHost: x", b"\x7f", bytes(range(1, 128)), b"\x1b[31m"]  # fmt: skip


@pytest.mark.parametrize("tag", [UTF8, PRINTABLE, T61, IA5, 18])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_each_special_character_in_each_string(tag, value):
    check(certificate(name([(O, tag, b"before")], [(CN, tag, value)], [(OU, tag, b"after")])))


@pytest.mark.parametrize(
    "rdns",
    [
        [],
        [[(O, UTF8, b"x"), (CN, UTF8, b"y"), (OU, UTF8, b"z")]],
        [[(O, UTF8, b"x")], [(CN, UTF8, b"y"), (CN, UTF8, b"y,z")], [(CN, UTF8, b"y")]],
        [[(DC, IA5, b"org")], [(EMAIL, IA5, b"a@b")], [(SERIAL, PRINTABLE, b"7")]],
        [[("1.2.3.4.5.6", UTF8, b"x")], [("2.999.1", UTF8, b"")], [("1.3.6.1.4.1.99999.1", IA5, b"a,CN=b")]],
        [[("2.5.4.97", UTF8, b"x")], [("1.3.6.1.4.1.311.60.2.1.3", PRINTABLE, b"DE")], [("1.3.6.1.5.5.7.3.2", UTF8, b"y")]],
        [[(CN, 3, b"\0ab")], [(CN, 0x30, b"")]],
        [[(CN, BMP, "aé,\u20ac".encode("utf-16-be"))], [(CN, UNIVERSAL, "a+\U0001f600".encode("utf-32-be"))]],
        [[(CN, UTF8, "Jürgen €\u2028😀".encode())], [(CN, T61, b"J\xfcrgen")], [(CN, BMP, b"")]],
        [[(CN, UTF8, b"x" * 5000)]],
    ],
)  # fmt: skip
def test_structures_types_and_encodings(rdns):
    check(certificate(name(*rdns), name([(CN, UTF8, b"an,authority")])))


STRINGS = st.one_of(
    st.tuples(st.sampled_from([PRINTABLE, T61, IA5]), st.binary(max_size=6)),
    st.tuples(
        st.just(BMP),
        st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=4).map(
            lambda s: s.encode("utf-16-be")
        ),
    ),
    st.tuples(st.just(UNIVERSAL), st.text(max_size=4).map(lambda s: s.encode("utf-32-be"))),
    st.tuples(st.just(UTF8), st.text(max_size=4).map(str.encode)),
    st.tuples(st.just(UTF8), st.text(st.sampled_from(' ,+"\\<>;#=a\n'), max_size=6).map(str.encode)),
).filter(lambda found: found[1] not in (b"#", b"\0#", b"\0\0\0#"))  # which openssl does not escape, though it is first
TYPES = st.sampled_from([CN, O, OU, EMAIL, DC, "1.2.3.4", "2.999.7"])
RDNS = st.lists(st.lists(st.tuples(TYPES, STRINGS), min_size=1, max_size=3), max_size=4)


@settings(max_examples=80)
@given(RDNS)
def test_any_name_is_as_openssl_writes_it(rdns):
    check(certificate(name(*[[(kind, *string) for kind, string in rdn] for rdn in rdns])))


def test_what_openssl_does_not_load_or_writes_so_that_it_can_be_taken_for_something_else():
    assert describe(certificate(name([(CN, UTF8, b"#")])))["SSL_CLIENT_S_DN"] == "CN=\\#"
    assert describe(certificate(name([(CN, UTF8, b"\xff")])))["SSL_CLIENT_S_DN"] == "CN=\\FF"
    # characters that are none would vanish: `admin` with a lone surrogate in it is not `admin`
    assert describe(certificate(name([(CN, BMP, b"\xd8\0")])))["SSL_CLIENT_S_DN"] == "CN=#1E02D800"
    assert describe(certificate(name([(CN, BMP, b"a")])))["SSL_CLIENT_S_DN"] == "CN=#1E0161"
    assert describe(certificate(name([(CN, UNIVERSAL, b"\0\x11\0\0")])))["SSL_CLIENT_S_DN"] == "CN=#1C0400110000"
    long = "1.3" + ".99999" * 30
    assert describe(certificate(name([(long, UTF8, b"x")])))["SSL_CLIENT_S_DN"] == f"{long}=#0C0178"


@pytest.mark.parametrize(
    ("serial", "text"),
    [(b"\0", "00"), (b"\x0a", "0A"), (b"\0\xff", "FF"), (b"\xff", "-01"), (b"\x7f" * 20, "7F" * 20), (b"\x11" * 90, "11" * 90)],
)  # fmt: skip
def test_serial_numbers(serial, text):
    assert describe(certificate(name(), serial=serial))["SSL_CLIENT_M_SERIAL"] == text
    if len(serial) < 30:
        assert told(certificate(name(), serial=serial))["serial"].lstrip("0") == text.lstrip("0")
    assert describe(certificate(name(), serial=serial, version=b""))["SSL_CLIENT_M_SERIAL"] == text


GOOD = certificate(name([(CN, UTF8, b"x")]))
BAD_NAMES = [
    der(0x30, der(0x31)),
    der(0x30, der(0x30)),
    der(0x30, der(0x31, der(0x30))),
    der(0x30, der(0x31, der(0x30, oid(CN)))),
    der(0x30, der(0x31, der(0x30, der(12, b"x"), der(12, b"y")))),
    *[
        der(0x30, der(0x31, der(0x30, der(6, bad), der(12, b"y"))))
        for bad in (b"", b"\x80\1", b"\x55\x84", b"\1" * 129)
    ],
]


@pytest.mark.parametrize("subject", BAD_NAMES, ids=bytes.hex)
def test_a_name_that_is_none_is_an_error(subject):
    with pytest.raises(ValueError):
        describe(certificate(subject))


@given(st.binary(max_size=80) | st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=3)).map(
    lambda found: GOOD[: found[0]] + found[1] + GOOD[found[0] + len(found[1]) :]
))  # fmt: skip
def test_other_octets_raise_nothing_but_value_errors(data):
    with contextlib.suppress(ValueError):
        describe(data)
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError):
            describe(data[:end])
