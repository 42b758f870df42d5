"""Files of every kind, as `wsgi.file_wrapper` sends them; the path names one, and a block size."""

# ruff: noqa: SIM115 -- the file wrapper closes what it is given

import gzip
import io
import os
import tempfile

ON_DISK = b"as it lies on the disk " * 9000
BIG = bytes(range(256)) * 10000


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
    "big": lambda: written(BIG),
    "huge": lambda: sparse(1 << 30),
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


def whole(name):
    """What the file reads as."""
    made = FILES[name]()
    pieces = list(iter(lambda: made.read(7000) or None, None))
    getattr(made, "file", made).close()
    return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
