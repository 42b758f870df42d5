"""Every wrong value, name, file and argument is refused at load, in one line that says where it stands and what is allowed."""

from __future__ import annotations

import pytest

from apid import conf
from apid.conf.http import ACCESS_LOG_NUMBERS, ACCESS_LOG_TEXTS
from apid.errors import ConfigError
from apid.server.access_log import DEFAULT, FIELDS

BIND = "must be host:port, [IPv6 address]:port, unix:/path or fd:name"
SECONDS = "must be a number of seconds, 0 or more"
SWITCH = "must be true or false (also: yes, no, on, off, 1, 0)"
SIZE = "must be a size in bytes, 0 or more; K, M and G (powers of 1024) may follow"

VALUES = [
    ("bind_port", "99999", "must be a whole number from 0 to 65535"),
    ("bind_port", "http", "must be a whole number from 0 to 65535"),
    ("bind_port", "", "must be a whole number from 0 to 65535"),
    ("bind_host", "exa mple", "'exa mple' is neither an IP address nor a host name"),
    ("bind_host", "300.1.1.1", "'300.1.1.1' is neither an IP address nor a host name"),
    ("bind_host", "", "must not be empty"),
    ("bind", "8080", BIND),
    ("bind", ":8080", BIND),
    ("bind", "::1:8080", BIND),
    ("bind", "127.0.0.1:65536", "the port '65536' must be a whole number from 0 to 65535"),
    ("bind", "[127.0.0.1]:80", "'127.0.0.1' is no IPv6 address; brackets are for those"),
    ("bind", "[::g]:80", "'::g' is neither an IP address nor a host name"),
    ("bind", "unix:", "unix: must be followed by the path of a socket"),
    ("bind", "unix:/" + "x" * 107, "the path of a UNIX socket must not be longer than 107 bytes: /" + "x" * 107),
    ("bind", "fd:", "fd: must be followed by the name of a socket unit's descriptor (LISTEN_FDNAMES)"),
    ("backlog", "0", "must be a whole number from 1 to 65535"),
    ("workers", "-1", "must be a whole number from 0 to 200, or auto"),
    ("workers", "201", "must be a whole number from 0 to 200, or auto"),
    ("workers", "2.5", "must be a whole number from 0 to 200, or auto"),
    ("tcp_keepidle", "40000", "must be a whole number from 0 to 32767"),
    ("umask", "0088", "must be an octal number from 0000 to 0777, for example 0027"),
    ("umask", "7777", "must be an octal number from 0000 to 0777, for example 0027"),
    ("startup_timeout", "-1", SECONDS),
    ("worker_timeout", "inf", SECONDS),
    ("drain_delay", "nan", SECONDS),
    ("keepalive_timeout", "5s", SECONDS),
    ("max_requests", "-3", "must be a whole number of at least 0"),
    ("max_worker_rss", "lots", SIZE),
    ("max_worker_rss", "1T", SIZE),
    ("max_header_line", "10", "must be a size in bytes, 64 or more; K, M and G (powers of 1024) may follow"),
    ("pool_size", "0", "must be a whole number from 1 to 1000000"),
    ("http_keepalive", "perhaps", SWITCH),
    ("proxy_protocol", "v2", SWITCH),
    ("trusted_proxies", "10.0.0.0/8, proxy", "'proxy' is neither an IP address nor a network such as 10.0.0.0/8"),
    ("trusted_proxies", "10.0.0.1/8", "'10.0.0.1/8' has bits set beyond its prefix; did you mean 10.0.0.0/8?"),
    ("access_log_format", "jsn", "must hold fields such as %(client_ip)s, or be json"),
    ("access_log_format", "%(method)s 5%", "a % that begins no field such as %(client_ip)s is written %%"),
    (
        "access_log_format",
        "%(method)d",
        "a conversion does not fit its field: %d format: a real number is required, not str",
    ),
    ("listeners", "Admin", "'Admin' is no name: use lower-case letters, digits, - and _"),
    ("listeners", "main", "the name main is taken by the listener of [DEFAULT]"),
    ("listeners", "a, a", "'a' is named twice"),
    ("user", "nobody-at-all", "there is no such user"),
    ("group", "nogroup-at-all", "there is no such group"),
    ("user", "99999999999999999999", "a number must be from 0 to 4294967294"),
    ("group", "4294967295", "a number must be from 0 to 4294967294"),
    ("user", "-1", "there is no such user"),
    ("user", "²", "there is no such user"),
    ("group", "٣", "there is no such group"),
    ("pid_file", "/no/such/dir/apid.pid", "there is no directory /no/such/dir"),
    ("control_socket", "/no/such/dir/ctl", "there is no directory /no/such/dir"),
    (
        "control_socket",
        "/tmp/" + "x" * 110,
        "the path of a UNIX socket must not be longer than 107 bytes: /tmp/" + "x" * 110,
    ),
    ("access_log", "/no/such/dir/access.log", "there is no directory /no/such/dir"),
    ("log_file", "/no/such/dir/apid.log", "there is no directory /no/such/dir"),
    ("log_file", "/tmp", "/tmp is a directory"),
    ("log_dir", "/no/such/dir", "there is no such directory"),
    ("log_config_append", "/no/such/file", "/no/such/file cannot be read: No such file or directory"),
    ("max_requests_jitter", "5", "has no meaning without max_requests"),
    ("proxy_protocol", "true", "needs trusted_proxies: a PROXY header is believed from those addresses only"),
    ("max_header_line", "100000", "is more than max_header_size (65536), which holds all header lines together"),
]


@pytest.mark.parametrize(("option", "value", "reason"), VALUES)
def test_a_wrong_value_in_a_file(refused, tmp_path, option, value, reason):
    given = f"= {value}".rstrip()
    assert (
        refused(f"# first\n[DEFAULT]\n{option} = {value}\n")
        == f"{tmp_path}/apid.conf:3: [DEFAULT] {option} {given}: {reason}"
    )


def test_a_wrong_value_on_the_command_line_and_in_the_environment(refused):
    reason = "[DEFAULT] bind_port = x: must be a whole number from 0 to 65535"
    assert refused("", "--bind-port", "x") == f"command line: --bind-port: {reason}"
    assert refused("", OS_DEFAULT__BIND_PORT="x") == f"environment: OS_DEFAULT__BIND_PORT: {reason}"
    assert refused("", OS_DEFAULT__BIND="127.0.0.1:1,x") == f"environment: OS_DEFAULT__BIND: [DEFAULT] bind = x: {BIND}"


def test_the_wrong_one_of_several_binds_is_named(refused, tmp_path):
    text = "[DEFAULT]\nbind = 127.0.0.1:80\nbind = wrong\nbind = [::1]:80\n"
    assert refused(text) == f"{tmp_path}/apid.conf:3: [DEFAULT] bind = wrong: {BIND}"


def test_an_alias_with_a_wrong_value_is_named_as_written(refused, tmp_path):
    expected = f"{tmp_path}/apid.conf:2 (as [wsgi] keep_alive): [DEFAULT] http_keepalive = x: {SWITCH}"
    assert refused("[wsgi]\nkeep_alive = x\n") == expected


def test_an_unknown_field_of_the_access_log(refused):
    text = refused("[DEFAULT]\naccess_log_format = %(method)s %(staus_code)s\n")
    assert ": there is no field staus_code; there are body_length, bytes_in, " in text


def test_the_fields_of_the_access_log_are_those_of_the_engine(load):
    assert sorted(ACCESS_LOG_TEXTS + ACCESS_LOG_NUMBERS) == sorted(FIELDS)
    spec = DEFAULT.replace("$", "$$")
    assert load(f"[DEFAULT]\naccess_log_format = {spec}\n").http.access_log_format == DEFAULT
    assert load("[DEFAULT]\naccess_log_format = json\n").http.access_log_format == "json"


def test_all_wrong_values_are_told_at_once(refused, tmp_path):
    lines = refused("[DEFAULT]\nworkers = x\nbacklog = y\n[ssl]\nversions = SSLv3\n").splitlines()
    assert [line.split(":")[1] for line in lines] == ["3", "2", "5"]
    assert lines[2].endswith("[ssl] versions = SSLv3: must be one or more, separated by commas, of: TLSv1.2, TLSv1.3")


UNKNOWN = [
    ("[DEFAULT]\nworkres = 3\n", "2: unknown option workres in [DEFAULT]; did you mean workers?"),
    ("[DEFAULT]\nbind-port = 3\n", "2: unknown option bind-port in [DEFAULT]; did you mean bind_port?"),
    ("[DEFAULT]\nWorkers = 3\n", "2: unknown option Workers in [DEFAULT]; did you mean workers?"),
    (
        "[DEFAULT]\ncert_file_path = x\n",
        "2: unknown option cert_file_path in [DEFAULT]; the nearest known name is cert_file",
    ),
    ("[DEFAULT]\nflavor = x\n", "2: unknown option flavor in [DEFAULT]; it belongs into [paste_deploy]"),
    ("[DEFAULT]\ncheck_config = true\n", "2: unknown option check_config in [DEFAULT]; "),
    (
        "[DEFAULT]\nconfig_source = x\n",
        "2: unknown option config_source in [DEFAULT]; the nearest known name is config_file",
    ),
    ("[DEFAULT]\nzzz = 1\n", "2: unknown option zzz in [DEFAULT]; apid --help lists the options"),
    ("[paste_deploy]\nflavour = x\n", "2: unknown option flavour in [paste_deploy]; did you mean flavor?"),
    ("[wsgi]\nnope_nope = x\n", "2: unknown option nope_nope in [wsgi]; "),
    ("[pastedeploy]\nflavor = x\n", "1: unknown section [pastedeploy]; did you mean [paste_deploy]?"),
    ("[default]\nworkers = 1\n", "1: unknown section [default]; did you mean [DEFAULT]?"),
    (
        "[oslo_limit]\nconnection = x\n",
        "1: unknown section [oslo_limit]; there are [DEFAULT], [paste_deploy], [ssl], [database]",
    ),
    (
        "[listener:admin]\nbind = 127.0.0.1:1\n",
        "1: unknown section [listener:admin]: admin is not named in the option listeners",
    ),
    (
        "[DEFAULT]\nlisteners = a\n[listener:a]\nbind = 127.0.0.1:1\nbnd = 1\n",
        "5: unknown option bnd in [listener:a]; did you mean bind?",
    ),
]


@pytest.mark.parametrize(("text", "complaint"), UNKNOWN)
def test_an_unknown_name(refused, tmp_path, text, complaint):
    assert refused(text).startswith(f"{tmp_path}/apid.conf:{complaint}")


def test_unknown_variables_of_our_groups_only(refused, load):
    assert refused(OS_DEFAULT__WORKRES="3") == "environment: OS_DEFAULT__WORKRES: unknown option; did you mean workers?"
    assert (
        refused(OS_PASTE_DEPLOY__FLAVOUR="3")
        == "environment: OS_PASTE_DEPLOY__FLAVOUR: unknown option; did you mean flavor?"
    )
    assert refused(OS_SSL__CERT="3").startswith("environment: OS_SSL__CERT: unknown option; ")
    load("", OS_DATABASE__CONNECTION="x", OS_AUTH_URL="x", OS_PROJECT__NAME="x", OS_CLOUD="x")


FILES = [
    (b"workers = 1\n", ":1: workers stands before any section: write [DEFAULT] above it"),
    (b"[DEFAULT]\nworkers\n", ":2: No ':' or '=' found in assignment: workers"),
    (b"[DEFAULT\n", ":1: Invalid section (must end with ]): [DEFAULT"),
    (b"[]\n", ":1: Empty section name: []"),
    (b"[DEFAULT]\n= 3\n", ":2: Key cannot be empty: = 3"),
    (b"[DEFAULT]\n  x\n", ":2: Unexpected continuation line: x"),
]


@pytest.mark.parametrize(("content", "complaint"), FILES)
def test_a_file_that_is_no_configuration(tmp_path, content, complaint):
    path = tmp_path / "apid.conf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        conf.load(["--config-file", str(path)], environ={})
    assert str(caught.value).startswith(f"{path}{complaint}")


def test_files_that_are_not_there(tmp_path):
    unreadable = "the configuration file cannot be read"
    for argv, expected in [
        (["--config-file", f"{tmp_path}/none"], f"{tmp_path}/none: {unreadable}: No such file or directory"),
        (["--config-file", str(tmp_path)], f"{tmp_path}: {unreadable}: Is a directory"),
        (["--config-dir", f"{tmp_path}/none"], f"--config-dir {tmp_path}/none: there is no such directory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            conf.load(argv, environ={})
        assert str(caught.value) == expected


ARGUMENTS = [
    (["--workres", "3"], "unknown option --workres; did you mean --workers?"),
    (["--workres=3"], "unknown option --workres=3; did you mean --workers?"),
    (["--work", "3"], "unknown option --work; did you mean --workers?"),
    (["--workers"], "argument --workers: expected one argument"),
    (["--config-file"], "argument --config-file: expected one argument"),
    (["start"], "unexpected argument 'start'"),
    (["-x"], "unknown option -x"),
    (["--check-config=yes"], "argument --check-config: ignored explicit argument 'yes'"),
]


@pytest.mark.parametrize(("argv", "complaint"), ARGUMENTS)
def test_a_wrong_command_line(capfd, argv, complaint):
    with pytest.raises(ConfigError) as caught:
        conf.load(argv, environ={})
    assert str(caught.value) == f"command line: {complaint} (see apid --help)"
    assert capfd.readouterr() == ("", "")


def test_a_pipeline_file_that_is_not_there(refused, tmp_path):
    text = refused("[paste_deploy]\nconfig_file = none.ini\n")
    reason = f"{tmp_path}/none.ini cannot be read: No such file or directory"
    assert text == f"{tmp_path}/apid.conf:2: [paste_deploy] config_file = none.ini: {reason}"


def test_no_pipeline_file_anywhere_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr("apid.conf.build.SYSTEM", f"{tmp_path}/etc/api-paste.ini")
    monkeypatch.setattr("apid.conf.build.PACKAGED", f"{tmp_path}/packaged/api-paste.ini")
    (tmp_path / "apid.conf").write_text("")
    with pytest.raises(ConfigError) as caught:
        conf.load(["--config-file", str(tmp_path / "apid.conf")], environ={})
    places = ", ".join(f"{tmp_path}/{place}api-paste.ini" for place in ["", "etc/", "packaged/"])
    assert str(caught.value) == f"[paste_deploy] config_file is not set, and there is none of {places}"


def test_an_address_given_twice(refused, tmp_path):
    expected = f"{tmp_path}/apid.conf:3: [DEFAULT] bind = [::1]:80,[::1]:80: the address [::1]:80 is given twice"
    assert refused("[DEFAULT]\nbind = [::1]:80\nbind = [::1]:80\n") == expected
    text = refused("[DEFAULT]\nlisteners = a\n[listener:a]\nbind = 127.0.0.1:8080\n")
    reason = "the address 127.0.0.1:8080 is given twice, in the listeners main and a"
    assert text == f"{tmp_path}/apid.conf:4: [listener:a] bind = 127.0.0.1:8080: {reason}"


def test_port_0_may_stand_twice(load):
    assert len(load("[DEFAULT]\nbind = 127.0.0.1:0\nbind = 127.0.0.1:0\n").listeners[0].addresses) == 2


def test_a_listener_needs_an_address(refused, tmp_path):
    reason = "[listener:a] needs the option bind, for example bind = 127.0.0.1:8081"
    assert refused("[DEFAULT]\nlisteners = a\n") == f"{tmp_path}/apid.conf:2: [DEFAULT] listeners = a: {reason}"


def test_two_ways_to_log(refused):
    assert "use_journal = true: the log goes to /tmp/a.log already" in refused(
        "[DEFAULT]\nuse_journal = true\nlog_file = /tmp/a.log\n"
    )
    assert "use_json = true: has no meaning with use_journal" in refused(
        "[DEFAULT]\nuse_journal = true\nuse_json = true\n"
    )


def test_tls(load, tmp_path):
    text = f"[ssl]\ncert_file = one.crt\nkey_file = {tmp_path}/one.key\nca_file = two.crt\ncrl_file = two.crl\n"
    (main,) = load(f"{text}versions = TLSv1.3\nciphers = HIGH\n").listeners
    assert main.tls is not None
    assert (main.tls.cert_file, main.tls.key_file) == (f"{tmp_path}/one.crt", f"{tmp_path}/one.key")
    assert (main.tls.ca_file, main.tls.crl_file) == (f"{tmp_path}/two.crt", f"{tmp_path}/two.crl")
    assert (main.tls.versions, main.tls.ciphers) == (("TLSv1.3",), "HIGH")
    assert main.tls.where["key_file"] == f"{tmp_path}/apid.conf:3: [ssl] key_file = {tmp_path}/one.key"
    (main,) = load("[DEFAULT]\ncert_file = both.pem\n").listeners
    assert main.tls is not None
    assert main.tls.key_file == f"{tmp_path}/both.pem"
    assert main.tls.where["key_file"] == f"{tmp_path}/apid.conf:2 (as cert_file): [ssl] cert_file = both.pem"
    (main,) = load("[wsgi]\nssl_cert_file = one.crt\nssl_key_file = one.key\n").listeners
    assert main.tls is not None


def test_tls_of_one_listener_only(load):
    main, secure = load(
        "[DEFAULT]\nlisteners = s\n[listener:s]\nbind = 127.0.0.1:8443\ncert_file = both.pem\n"
    ).listeners
    assert main.tls is None
    assert secure.tls is not None
    main, plain = load(
        "[DEFAULT]\nlisteners = p\n[ssl]\ncert_file = both.pem\n[listener:p]\nbind = [::1]:80\n"
    ).listeners
    assert main.tls is not None
    assert plain.tls is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("key_file = one.key", "key_file = one.key: has no meaning without cert_file"),
        ("ca_file = two.crt", "ca_file = two.crt: has no meaning without cert_file"),
        ("crl_file = two.crl", "crl_file = two.crl: has no meaning without cert_file"),
        ("cert_file = one.crt\ncrl_file = two.crl", "crl_file = two.crl: has no meaning without ca_file"),
        (
            "cert_file = both.pem\nversions =",
            "versions =: must be one or more, separated by commas, of: TLSv1.2, TLSv1.3",
        ),
    ],
)
def test_tls_that_cannot_work(refused, options, complaint, tmp_path):
    text = refused(f"[ssl]\n{options}\n")
    assert text.startswith(f"{tmp_path}/apid.conf:")
    assert f"[ssl] {complaint}" in text


@pytest.mark.parametrize(
    ("section", "option", "value", "reason"),
    [
        ("DEFAULT", "bind_host", "$nope", "$nope does not exist; write $$ for a dollar sign"),
        ("DEFAULT", "bind", "$nope", "$nope does not exist; write $$ for a dollar sign"),
        ("paste_deploy", "flavor", "a${nope}", "$nope does not exist; write $$ for a dollar sign"),
        ("paste_deploy", "flavor", "a${b.c}", "group [b] does not exist; write $$ for a dollar sign"),
        ("DEFAULT", "bind_host", "$bind_host", "it refers to itself"),
    ],
)
def test_a_reference_that_leads_nowhere(refused, tmp_path, section, option, value, reason):
    expected = f"{tmp_path}/apid.conf:2: [{section}] {option} = {value}: {reason}"
    assert refused(f"[{section}]\n{option} = {value}\n") == expected


def test_a_reference_that_leads_nowhere_shows_no_password(refused):
    text = refused("[database]\nconnection = postgresql://u:pa$secret@h/zoo\n")
    assert "write $$ for a dollar sign" in text
    assert "pa$" not in text
    assert "secret" not in text
