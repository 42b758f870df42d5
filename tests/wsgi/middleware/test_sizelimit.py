"""The sizelimit filter: 413 by Content-Length, and for a body without one at the read that goes over."""

import io

import pytest

from apid.wsgi.middleware import sizelimit
from tests.wsgi.middleware.wire import Seen, ask

TEN = sizelimit.factory({}, max_request_body_size="10")


def read_all(stream):
    return stream.read(1000)


def chunks(stream):
    return b"".join(iter(lambda: stream.read(3), b""))


def test_nova_names_and_default():
    assert sizelimit.factory.options().max_request_body_size == 114688
    wrap = sizelimit.factory({}, osapi_max_request_body_size="2K")
    assert ask(wrap, Seen(), method="POST", body=b"x" * 2048).status == 200
    assert ask(wrap, Seen(), method="POST", body=b"x" * 2049).status == 413


@pytest.mark.parametrize("read", [read_all, chunks])
@pytest.mark.parametrize("length", [True, False])
def test_at_the_limit_and_over_it(read, length):
    app = Seen(read=read)
    assert ask(TEN, app, method="POST", body=b"0123456789", length=length).status == 200
    assert app.body == b"0123456789"
    answer = ask(TEN, Seen(read=read), method="POST", body=b"0123456789x", length=length)
    assert answer.status == 413
    fault = answer.json["overLimit"]
    assert (fault["code"], "10 bytes" in fault["message"]) == (413, True)
    assert fault["request_id"].startswith("req-")


def test_a_small_length_beside_a_transfer_coding_is_not_believed():
    answer = ask(TEN, Seen(read=read_all), method="POST", body=b"x" * 11, length=False, CONTENT_LENGTH="5")
    assert answer.status == 413


def test_a_body_that_is_not_read_is_not_counted():
    assert ask(TEN, Seen(), method="POST", body=b"x" * 100, length=False).status == 200


@pytest.mark.parametrize(
    ("length", "status"), [("11", 413), ("9" * 30, 413), ("-1", 400), ("1e1", 400), ("٣", 400), ("", 200)]
)
def test_content_length_as_a_text(length, status):
    started = []
    TEN(Seen())(
        {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length}, lambda status, headers, exc=None: started.append(status)
    )
    assert int(started[0][:3]) == status


def test_a_generator_that_reads_late():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield environ["wsgi.input"].read(100)

    assert ask(TEN, app, method="POST", body=b"x" * 11, length=False).status == 413
    assert ask(TEN, app, method="POST", body=b"x" * 9, length=False).body == b"x" * 9


def test_after_the_answer_began_the_error_reaches_the_server():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        yield environ["wsgi.input"].read(100)

    def start_response(status, headers, exc_info=None):  # as PEP 3333 asks of a server that has sent the head
        if exc_info:
            raise exc_info[1].with_traceback(exc_info[2])

    environ = {"REQUEST_METHOD": "POST", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(b"x" * 11)}
    body = iter(TEN(app)(environ, start_response))
    assert next(body) == b"begun"
    with pytest.raises(sizelimit.BodyTooLarge):
        next(body)


def test_an_applications_own_413_is_left_alone():
    def app(environ, start_response):
        raise sizelimit.faults.TooLarge("mine")

    with pytest.raises(sizelimit.faults.TooLarge, match="mine"):
        ask(TEN, app, method="POST", body=b"x", length=False)


class TestCountedInput:
    """Read, readline, readlines and iteration give what the stream below gives, and nobody gets a byte too many."""

    DATA = b"one\ntwo\n\nlast"

    def counted(self, limit=13):
        return sizelimit.CountedInput(io.BytesIO(self.DATA), limit, OverflowError)

    def test_like_bytesio(self):
        for use in (
            lambda s: s.read(),
            lambda s: s.read(-1),
            lambda s: s.read(0) + s.read(5) + s.read(None),
            lambda s: [s.readline(), s.read(2), s.readline(), s.readline(), s.readline(), s.readline()],
            lambda s: [s.readline(2), s.readline(2), s.readline(0), s.readline(100), s.read()],
            lambda s: s.readlines(),
            lambda s: s.readlines(5),
            list,
        ):
            assert use(self.counted()) == use(io.BytesIO(self.DATA))

    @pytest.mark.parametrize("use", [lambda s: s.read(), lambda s: s.read(13), lambda s: s.readlines(), list])
    def test_over_the_limit(self, use):
        stream = self.counted(12)
        with pytest.raises(OverflowError):
            use(stream)
        with pytest.raises(OverflowError):
            use(stream)

    def test_extras_of_the_server_are_reached(self):
        assert self.counted().getvalue() == self.DATA
