"""`wsgi.input` reads as a file does, however the octets come."""

import io

from hypothesis import given
from hypothesis import strategies as st

from apid.server.protocol.request_head import Limits
from apid.server.wsgi_input import WsgiInput


class Wire:
    """A connection as the input sees it: octets that arrive in pieces."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]
        self.buffer = b""

    def receive(self, size):
        if self.buffer:
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            return data
        if not self.pieces:
            return b""
        data, rest = self.pieces[0][:size], self.pieces[0][size:]
        self.pieces[:1] = [rest] if rest else []
        return data

    def take_turns(self, since):
        return since

    def progress(self):
        pass

    def moved(self):
        pass

    def gone(self):
        return ConnectionResetError()


@given(
    st.lists(st.binary(max_size=30), max_size=8),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from("rl"), st.integers(-1, 40))),
)
def test_reads_as_a_file_does(pieces, chunked, calls):
    content = b"".join(pieces)
    sent = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"] if chunked else pieces
    wire = Wire([*sent, b"NEXT"])
    given_ = WsgiInput(wire)
    if content or chunked:
        given_ = WsgiInput.of(wire, Limits(), len(content), chunked=chunked, expects=False)
    file = io.BytesIO(content)
    for what, size in [*calls, ("r", -1)]:
        expected, got = (
            (file.read(size), given_.read(size)) if what == "r" else (file.readline(size), given_.readline(size))
        )
        assert got == expected
        assert given_.position == file.tell()
    assert given_.discard(100)
    assert b"".join([wire.buffer, *wire.pieces]) == b"NEXT"
