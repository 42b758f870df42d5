"""What of an application's status and fields may go on the wire (PEP 3333, RFC 9110 §5.5, promise S3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.server.protocol import response_head
from apid.server.protocol.response_head import ResponseError, ResponseHead
from apid.server.wsgi_input import WsgiInput


class Text(str):
    """What lazy translations and marked-up text are: a str, whatever else it does."""

    __slots__ = ()

    def __format__(self, spec):
        return "injected\r\nX-Injected: 1"

    def __radd__(self, other):
        return "injected\r\nX-Injected: 1"


@pytest.mark.parametrize("value", [b"b", 5, None, ["a"], 5.0, True, bytearray(b"b"), object(), ("a", "b")])
@pytest.mark.parametrize("name", ["X-A", "Content-Length", "Date", "Connection", "Transfer-Encoding", "Upgrade"])
def test_a_value_that_is_no_str_is_refused(name, value):
    with pytest.raises(ResponseError, match="no str"):
        ResponseHead("200 OK", [("X-Before", "a"), (name, value)])


@pytest.mark.parametrize(
    "name", [b"X-A", 5, None, "", "X A", "X-A:", "X-\xe9", "X-A\r\nX-B", "X\tA", " X", '"X"', "X(", ()]
)
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(ResponseError):
        ResponseHead("200 OK", [(name, "a")])


@pytest.mark.parametrize("control", [chr(code) for code in [*range(9), *range(10, 32), 127]])
def test_a_control_character_in_a_value_is_refused(control):
    for value in (f"a{control}b", f"a{control}", control, f"\xe9{control}"):
        with pytest.raises(ResponseError, match="control character"):
            ResponseHead("200 OK", [("X-A", value), ("X-B", "b")])


@pytest.mark.parametrize(
    "fields",
    [None, 5, [None], ["X-A: a"], [("X-A",)], [("X-A", "a", "b")], ("X-A", "a"), {"X-A": "a"}, [5], [[]], "X-A: a", b"X-A: a",
     [(["X-A"], "a")]],
)  # fmt: skip
def test_headers_that_are_no_pairs_are_refused(fields):
    with pytest.raises(ResponseError):
        ResponseHead("200 OK", fields)


@pytest.mark.parametrize(
    "status",
    [b"200 OK", 200, None, "", "OK", "20 OK", "2000 OK", "200OK", " 200 OK", "200\tOK", "200 OK\r", "200 O\x00K", "200 O\x1bK",
     "\u0662\u0660\u0660 OK", "100 Continue", "101 Switching Protocols", "600 Far", "200 \u20ac", "-200 OK"],
)  # fmt: skip
def test_a_malformed_status_is_refused(status):
    with pytest.raises(ResponseError):
        ResponseHead(status, [])


@pytest.mark.parametrize("value", ["\u20ac", "\u0100", "a\ud800"])
def test_text_beyond_latin_1_is_refused(value):
    with pytest.raises(ResponseError, match="latin-1"):
        ResponseHead("200 OK", [("X-A", value)])


@pytest.mark.parametrize(
    "fields", [[("x-a", "b")], (("x-a", "b"),), iter([("x-a", "b")]), {"x-a": "b"}.items(), [["x-a", "b"]]]
)
def test_pairs_may_come_in_any_container(fields):
    assert ResponseHead("200 OK", fields).data == b"HTTP/1.1 200 OK\r\nX-A: b\r\n"


def test_what_goes_out_is_what_a_subclass_of_str_holds():
    found = ResponseHead(Text("418 Teapot"), [(Text("X-A"), Text("value")), ("X-B", Text("other"))])
    assert found.data == b"HTTP/1.1 418 Teapot\r\nX-A: value\r\nX-B: other\r\n"
    with pytest.raises(ResponseError):
        ResponseHead("200 OK", [("X-A", Text("a\r\nb"))])


def test_htab_and_latin_1_may_stay():
    found = ResponseHead("200 Tr\xe8s bien", [("X-A", "a\tb"), ("X-B", "\xa0\xad\xe9\x85"), ("X-C", "")])
    assert found.data == b"HTTP/1.1 200 Tr\xe8s bien\r\nX-A: a\tb\r\nX-B: \xa0\xad\xe9\x85\r\nX-C: \r\n"


def test_upgrade_is_the_applications_in_a_426_only():
    """RFC 9110 §15.5.22 and §7.8: it must be there, and Connection must name it."""
    fields = [("upgrade", "HTTP/2.0"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    assert ResponseHead("426 Upgrade Required", fields).data == (
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/2.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    )
    assert ResponseHead("426 Upgrade Required", []).data == b"HTTP/1.1 426 Upgrade Required\r\n"
    assert ResponseHead("200 OK", fields).data == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "pair", [("X-A", b"b"), ("X-A", 5), ("X A", "b"), ("X-A", "a\r\nb"), (b"X-A", "b"), ("X-A", "\u20ac")]
)
def test_the_fields_of_a_100_obey_the_same_rules(pair):
    with pytest.raises(ValueError, match=r"header|pairs|latin"):
        WsgiInput(None).set_hundred_continue_response_headers([pair])


FIELDS = [("Content-Type", "text/plain"), ("Content-Length", "3"), ("X-A", "b")]


def test_a_head_that_repeats_is_not_made_again():
    assert response_head.read("200 OK", list(FIELDS)) is response_head.read("200 OK", list(FIELDS))


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("201 OK", FIELDS),
        ("200 OK", FIELDS[:2]),
        ("200 OK", [*FIELDS[:2], ("X-A", "c")]),
        ("200 OK", [*FIELDS[:2], ("X-a", "b")]),
        ("200 OK", [*FIELDS, ("X-A", "b")]),
        ("200 OK", [("Content-Type", "text/plainContent-Length"), ("3", "X-A")]),
    ],
)
def test_one_that_differs_anywhere_is(status, fields):
    response_head.read("200 OK", list(FIELDS))
    assert response_head.read(status, fields).data == ResponseHead(status, fields).data


def test_what_a_value_holds_counts_and_not_what_it_says():
    class Equal(str):
        def __eq__(self, other):
            return True

        __hash__ = str.__hash__

    response_head.read("200 OK", [("X-User", "alice")])
    assert response_head.read("200 OK", [("X-User", Equal("bob"))]).data == b"HTTP/1.1 200 OK\r\nX-User: bob\r\n"


@pytest.mark.parametrize("fields", [[("X-A", "a\0b")], [("X-A", "a", "b")], [("X-A",)], [("X-A", 1)], 3, "ab", [1]])
def test_what_is_refused_is_refused_again(fields):
    for _ in range(2):
        with pytest.raises(ResponseError):
            response_head.read("200 OK", fields)


def test_few_heads_are_kept():
    for number in range(1000):
        response_head.read("200 OK", [("X-Number", str(number))])
    assert len(response_head._heads) == 64


@given(
    st.lists(
        st.tuples(st.sampled_from(["X-A", "X-B", "Content-Length", "Date"]), st.text("ab1\0\t\u20ac", max_size=3)),
        max_size=4,
    )
)
def test_it_is_what_would_be_made(fields):
    def made(make):
        try:
            head = make("200 OK", fields)
        except ResponseError as error:
            return str(error)
        return head.data, head.length, head.dated, head.close, head.code

    assert made(response_head.read) == made(ResponseHead) == made(response_head.read)
