"""eventlet's own tests of eventlet.wsgi, run with the engine in its place. Every difference is listed here with its reason."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).parents[2]

FAULT = "server-made errors are JSON faults with a request id (S7), with the status RFC 9110 gives, in HTTP/1.1"
STREAM = "pieces are sent as they come: after an error what was sent stays sent, the answer is broken off"
TLS_LISTENER = "TLS is an option of the listener, not a wrapped socket; test_s5_tls.py has the same cases"
NO_KEEP_ALIVE = "Connection: keep-alive and Keep-Alive are redundant in HTTP/1.1 (RFC 9112 §9.3) and not sent there"
CHUNKED_1_0 = "Transfer-Encoding in HTTP/1.0 is refused (RFC 9112 §6.1): the application is not called"
TICKS = "deadlines are kept in ticks and up to 20 ms late at a tenth of a second"

DIFFERENCES = {
    "test_012_ssl_server": TLS_LISTENER,
    "test_013_empty_return": TLS_LISTENER,
    "test_028_ssl_handshake_errors": TLS_LISTENER,
    "test_018b_http_10_keepalive_framing": "Expect is ignored in HTTP/1.0 (RFC 9110 §10.1.1), so the connection can be kept",
    "test_020_x_forwarded_for": "log_x_forwarded_for is a field of the format here: forwarded_ip beside client_ip",
    "test_024_expect_100_continue": "a connection that ends is half-closed first: who still writes gets to read the answer",
    "test_025_accept_errors": "errors of accept do not end the server; the test expects its end (H6)",
    "test_026_log_format": "no startup lines in the access log; the test expects one before its line",
    "test_030_reject_long_header_lines": "max_header_line is 16384 by default (as nginx's large buffers), and " + FAULT,
    "test_031_reject_large_headers": FAULT,
    "test_aborted_chunked_post": CHUNKED_1_0,
    "test_aborted_chunked_post_bad_chunks": CHUNKED_1_0,
    "test_aborted_chunked_post_between_chunks": CHUNKED_1_0,
    "test_content_length_and_transfer_encoding_escape_hatch": "there is no way to allow both (S1)",
    "test_debug": FAULT,
    "test_disable_header_name_capitalization": "eventlet itself advises against the option; names are always capitalized",
    "test_do_not_close_non_idle_connections": "the test shuts the listener down, which acts on every process; nothing here does",
    "test_header_name_capitalization": "a field name that is no token is refused (S3)",
    "test_log_unix_address": "no startup line in the access log; the daemon's own log tells where it listens",
    "test_no_transfer_encoding_in_empty_response": NO_KEEP_ALIVE,
    "test_partial_writes_are_handled": "its Content-Length is an int: a header value that is no str is refused (PEP 3333)",
    "test_server_keepalive_sent_in_headers": NO_KEEP_ALIVE,
    "test_server_keepalive_as_timeout": TICKS,
    "test_server_socket_timeout": TICKS,
    "test_timeouts_in_app_call": STREAM,
    "test_unicode_with_nonascii_characters_raises_error": STREAM,
    "test_chunked_readline_wsgi_not_override_minimum_chunk_size": STREAM
    + "; eventlet.minimum_write_chunk_size brings it back",
    "test_zero_length_chunked_response": "an answer that turns out to be empty has Content-Length: 0",
    "test_iterable_app_keeps_socket_open_unless_connection_close_sent": "the same: an empty iterable has Content-Length: 0",
    "test_dirt": "octets after a chunk's data are refused (S1)",
}
"""Most of the tests send no Host in HTTP/1.1, which is refused here: the plugin lifts that rule, so that the rest is tested."""


@pytest.mark.slow
def test_differences_are_the_listed_ones(tmp_path):
    version = metadata.version("eventlet")
    download = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "eventlet", "-d", tmp_path,
         f"eventlet=={version}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if download.returncode:
        pytest.skip(f"the source distribution of eventlet {version} cannot be had: {download.stderr.strip()[-200:]}")
    with tarfile.open(tmp_path / f"eventlet-{version}.tar.gz") as archive:
        # a filter since 3.11.4 (PEP 706); Debian 12 has 3.11.2
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    # Not as tests.support.eventlet_wsgi: the distribution has a package `tests` of its own.
    shutil.copy(ROOT / "tests/support/eventlet_wsgi.py", tmp_path / "apid_eventlet_wsgi.py")
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "no:randomly", "-p", "apid_eventlet_wsgi"]
    ran = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", ".", "tests/wsgi_test.py"],
        cwd=tmp_path / f"eventlet-{version}",
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    failed = set(re.findall(r"^FAILED \S+::(\w+)", ran.stdout, re.MULTILINE))
    assert re.search(r"\d+ failed, (\d+) passed", ran.stdout), ran.stdout[-3000:] + ran.stderr[-3000:]
    timing = {name for name, reason in DIFFERENCES.items() if reason == TICKS}
    assert failed - timing == set(DIFFERENCES) - timing, ran.stdout[-6000:]
    assert "a bug in the" not in ran.stdout


def test_the_document_lists_each():
    text = (ROOT / "docs/HTTP_ENGINE.md").read_text()
    missing = [name for name in DIFFERENCES if name not in text]
    assert not missing
