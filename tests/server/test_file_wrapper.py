"""`wsgi.file_wrapper` sends what iterating over `read` gives (PEP 3333), by whatever way it goes out."""

import pytest

from apid.conf.settings import Http
from tests.support import conditions
from tests.support.apps.files import BIG, FILES, ON_DISK, app, whole
from tests.support.client import AnswerError, Connection, request_bytes
from tests.support.engine import wait_for

LIGHT = [name for name in FILES if name != "huge"]


@pytest.fixture(scope="module")
def engine(serving):
    with serving(app) as engines:
        yield engines


@pytest.mark.parametrize("name", LIGHT)
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


def test_where_the_kernel_stops_the_file_is_read(serving):
    with serving(app, prepare=conditions.without_sendfile) as engine, Connection(engine.address) as one:
        answer = one.request(path="/big")
        assert answer.header("Content-Length") == str(len(BIG))
        assert answer.body == BIG
        assert one.request(path="/memory").body == ON_DISK


def test_a_broken_transmission_counts_what_went(serving, tmp_path):
    log = tmp_path / "access.log"
    with serving(app, Http(access_log=str(log), access_log_format="%(bytes_out)d")) as engine:
        with Connection(engine.address) as one:
            one.send(request_bytes(path="/huge"))
            for _ in range(100):
                one.sock.recv(65536)
            one.reset()
        assert 100 * 4096 < int(wait_for(lambda: engine.flushed(log))) < 1 << 30
