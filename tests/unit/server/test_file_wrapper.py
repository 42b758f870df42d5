"""`wsgi.file_wrapper` sends what iterating over `read` gives (PEP 3333), by whatever way it goes out."""

# ruff: noqa: SIM115 -- the file wrapper closes what it is given

import errno
import gzip
import io
import os
import tempfile

import pytest

from apid.conf.settings import Http
from tests.support.client import AnswerError, Connection, request_bytes
from tests.support.engine import serving, wait_for

ON_DISK = b"as it lies on the disk " * 9000


def written(data=ON_DISK, position=0):
    made = tempfile.TemporaryFile()
    made.write(data)
    made.seek(position)
    return made


def sparse(size=10**6):
    made = written(b"")
    made.truncate(size)
    return made


def raw(kind=io.FileIO):
    with written() as made:
        return kind(os.open(f"/proc/self/fd/{made.fileno()}", os.O_RDONLY))


class Decrypting(io.BufferedReader):
    """A reader whose octets are not those on the disk."""

    def read(self, size=-1):
        return super().read(size).upper()


class DecryptingBelow(io.FileIO):
    """The same one layer below."""

    def readinto(self, buffer):
        size = super().readinto(buffer)
        buffer[:size] = bytes(buffer[:size]).upper()
        return size


class Wraps:
    """A wrapper with the attributes of those of tempfile and io."""

    def __init__(self, file):
        self.file = self.raw = file

    def fileno(self):
        return self.file.fileno()

    def tell(self):
        return self.file.tell()

    def read(self, size=-1):
        return self.file.read(size).upper()


def patched():
    made = written()
    made.read = lambda size=-1: io.BufferedRandom.read(made, size).upper()
    return made


def patched_below():
    made = io.BufferedReader(raw())
    file = made.raw

    def readinto(buffer):
        size = io.FileIO.readinto(file, buffer)
        buffer[:size] = bytes(buffer[:size]).upper()
        return size

    file.readinto = readinto
    return made


def filled(made, position=0):
    made.write(ON_DISK)
    made.seek(position)
    return made


def zipped():
    made = gzip.open(written(gzip.compress(ON_DISK)))
    made.myfileobj = made.fileobj  # closed with it
    return made


def dirty():
    """What has been written is still in the buffer where reading begins again."""
    made = written(b"0123456789" * 100)
    made.read(5)
    made.write(b"in the buffer")
    made.seek(0)
    return made


def fifo():
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    return open(reading, "rb")


FILES = {
    "buffered": written,
    "raw": raw,
    "reader": lambda: io.BufferedReader(raw()),
    "in-the-middle": lambda: written(position=5000),
    "at-its-end": lambda: written(position=len(ON_DISK)),
    "beyond-its-end": lambda: written(position=10**6),
    "sparse": sparse,
    "subclass": lambda: Decrypting(raw()),
    "subclass-below": lambda: io.BufferedReader(raw(DecryptingBelow)),
    "raw-subclass": lambda: raw(DecryptingBelow),
    "wrapper": lambda: Wraps(written()),
    "patched": patched,
    "patched-below": patched_below,
    "named": lambda: filled(tempfile.NamedTemporaryFile()),
    "spooled": lambda: filled(tempfile.SpooledTemporaryFile(10**9)),
    "spooled-over": lambda: filled(tempfile.SpooledTemporaryFile(10)),
    "zipped": zipped,
    "memory": lambda: io.BytesIO(ON_DISK),
    "text": lambda: io.TextIOWrapper(written()),
    "dirty": dirty,
    "fifo": fifo,
    "size-too-large": lambda: open("/sys/class/net/lo/mtu", "rb"),
    "size-too-large-raw": lambda: open("/sys/class/net/lo/mtu", "rb", buffering=0),
    "size-zero": lambda: open("/proc/sys/kernel/ostype", "rb"),
    "nothing": lambda: open(os.devnull, "rb"),
}


def unreadable():
    return open(os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_WRONLY), "wb")


def app(env, start):
    name, _, block = env["PATH_INFO"][1:].partition("/")
    length = [("Content-Length", env["QUERY_STRING"])] if env["QUERY_STRING"] else []
    write = start("200 OK", [("Content-Type", "text/plain"), *length])
    if name == "written-before":
        write(b"before ")
        return env["wsgi.file_wrapper"](written())
    if name == "not-open":
        made = written()
        made.close()
        return env["wsgi.file_wrapper"](made)
    if name == "write-only":
        return env["wsgi.file_wrapper"](unreadable())
    if name == "path-only":
        return env["wsgi.file_wrapper"](io.FileIO(os.open(__file__, os.O_PATH)))
    if name == "derived":

        class Upper(env["wsgi.file_wrapper"]):
            def __iter__(self):
                return (piece.upper() for piece in super().__iter__())

        return Upper(written())
    return env["wsgi.file_wrapper"](FILES[name](), *([int(block)] if block else []))


@pytest.fixture(scope="module")
def engine():
    with serving(app) as engines:
        yield engines


def whole(name):
    """What the file reads as."""
    made = FILES[name]()
    pieces = list(iter(lambda: made.read(7000) or None, None))
    getattr(made, "file", made).close()
    return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_arrives_as_it_reads(connection, name):
    assert connection.request(path=f"/{name}").body == whole(name)
    assert connection.request("HEAD", f"/{name}").body == b""
    assert connection.request(path="/memory").body == ON_DISK


@pytest.mark.parametrize("block", ["0", "-1", "7", "100000000"])
@pytest.mark.parametrize("name", ["buffered", "named", "text"])
def test_a_block_size_is_a_suggestion(connection, name, block):
    assert connection.request(path=f"/{name}/{block}").body == whole(name)


@pytest.mark.parametrize("name", ["buffered", "in-the-middle", "zipped", "patched", "memory", "text"])
@pytest.mark.parametrize("length", [0, 1, 70000])
def test_a_declared_length_ends_the_transmission(engine, connection, name, length):
    """PEP 3333: transmission ends when Content-Length octets have been sent; that is how a range is answered."""
    answer = connection.request(path=f"/{name}?{length}")
    assert answer.body == whole(name)[:length]
    assert not answer.closes
    assert connection.request(path="/memory").body == ON_DISK
    assert "more than its Content-Length" not in engine.logged()


@pytest.mark.parametrize("name", ["buffered", "zipped", "size-too-large"])
def test_a_declared_length_that_the_file_has_not_is_an_error_that_the_client_sees(connection, name):
    with pytest.raises(AnswerError):
        connection.request(path=f"/{name}?1000000")


def test_what_was_written_before_and_a_wrapper_of_the_applications_own(connection):
    assert connection.request(path="/written-before").body == b"before " + ON_DISK
    assert connection.request(path="/written-before?17").body == b"before as it lies"
    assert connection.request(path="/derived").body == ON_DISK.upper()


@pytest.mark.parametrize("name", ["not-open", "write-only", "path-only"])
def test_a_file_that_cannot_be_read_is_a_fault(connection, name):
    assert connection.request(path=f"/{name}").status == 500


def without_sendfile():
    """Take sendfile(2) away from the second megabyte on, as a file system may that has none or fails."""
    sendfile = os.sendfile

    def refuse(out, fd, offset, count):
        if offset >= 1 << 20:
            raise OSError(errno.EINVAL, "no sendfile here")
        return sendfile(out, fd, offset, min(count, (1 << 20) - offset))

    os.sendfile = refuse


def test_where_the_kernel_stops_the_file_is_read():
    FILES["big"] = lambda: written(bytes(range(256)) * 10000)
    with serving(app, prepare=without_sendfile) as engine, Connection(engine.address) as one:
        answer = one.request(path="/big")
        assert answer.header("Content-Length") == "2560000"
        assert answer.body == bytes(range(256)) * 10000
        assert one.request(path="/memory").body == ON_DISK


def test_a_broken_transmission_counts_what_went(tmp_path):
    FILES["huge"] = lambda: sparse(1 << 30)
    log = tmp_path / "access.log"
    with serving(app, Http(access_log=str(log), access_log_format="%(bytes_out)d")) as engine:
        with Connection(engine.address) as one:
            one.send(request_bytes(path="/huge"))
            for _ in range(100):
                one.sock.recv(65536)
            one.reset()
        assert 100 * 4096 < int(wait_for(log.read_text)) < 1 << 30
