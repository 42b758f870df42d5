"""Where values come from, what wins, and what the settings then hold."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apid import conf
from apid.conf.build import PACKAGED
from apid.conf.settings import Address, Daemon, Http, Log


def test_defaults_are_those_of_the_dataclasses(load):
    settings = load()
    assert settings.http == Http()
    assert settings.log == Log()
    assert settings.daemon == Daemon(workers=min(len(os.sched_getaffinity(0)), 8))
    (main,) = settings.listeners
    assert (main.name, main.addresses, main.tls) == ("main", (Address("tcp", "127.0.0.1", 8080),), None)
    assert main.paste.app_name == "main"


def test_command_line_beats_environment_beats_later_file_beats_earlier(write):
    first = write("[DEFAULT]\nworkers = 1\nbacklog = 1\npool_size = 1\nmax_headers = 1\n", "a.conf")
    second = write("[DEFAULT]\nbacklog = 2\npool_size = 2\nmax_headers = 2\n", "b.conf")
    environ = {"OS_DEFAULT__POOL_SIZE": "3", "OS_DEFAULT__MAX_HEADERS": "3"}
    settings = conf.load(["--max-headers=4", "--config-file", first, "--config-file", second], environ=environ)
    assert (settings.daemon.workers, settings.daemon.backlog) == (1, 2)
    assert (settings.http.pool_size, settings.http.max_headers) == (3, 4)
    where = {name: (text, source) for name, text, source in settings.sources}
    assert where["workers"] == ("1", f"{first}:2")
    assert where["backlog"] == ("2", f"{second}:2")
    assert where["pool_size"] == ("3", "environment: OS_DEFAULT__POOL_SIZE")
    assert where["max_headers"] == ("4", "command line: --max-headers")
    assert where["bind_port"] == ("8080", "default")
    assert settings.files == (first, second)


def test_a_second_load_remembers_nothing_of_the_first(load):
    assert load("[DEFAULT]\nworkers = 7\nbind = 127.0.0.1:1\n").daemon.workers == 7
    assert load("[DEFAULT]\nbacklog = 7\n").daemon.workers == load().daemon.workers
    assert load().listeners[0].addresses == (Address("tcp", "127.0.0.1", 8080),)


def test_bind_on_the_command_line_replaces_that_of_the_file(load):
    settings = load("[DEFAULT]\nbind = 127.0.0.1:1\nbind = [::1]:2\n", "--bind", "127.0.0.1:0", "--bind", "fd:api")
    assert settings.listeners[0].addresses == (Address("tcp", "127.0.0.1", 0), Address("fd", name="api"))


def test_bind_of_several_files_adds_up_and_each_path_is_relative_to_its_own(write, tmp_path):
    write("", "one/api-paste.ini")
    first = write("[DEFAULT]\nbind = unix:one.sock\n", "one/a.conf")
    second = write("[DEFAULT]\nbind = unix:two.sock\nbind = [::1]:80\n", "two/b.conf")
    settings = conf.load(["--config-file", first, "--config-file", second], environ={})
    one, two, tcp = settings.listeners[0].addresses
    assert one.path == str(tmp_path / "one/one.sock")
    assert two.path == str(tmp_path / "two/two.sock")
    assert str(tcp) == "[::1]:80"


def test_bind_in_the_environment_is_separated_by_commas(load):
    addresses = load(OS_DEFAULT__BIND="127.0.0.1:80, unix:/run/x.sock").listeners[0].addresses
    assert [str(address) for address in addresses] == ["127.0.0.1:80", "unix:/run/x.sock"]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_bind_host_may_be_ipv6(load, host):
    (address,) = load(f"[DEFAULT]\nbind_host = {host}\nbind_port = 81\n").listeners[0].addresses
    assert (address.host, address.port, str(address)) == ("::1", 81, "[::1]:81")


def test_lists_sizes_times_and_masks(load):
    settings = load(
        "[DEFAULT]\ntrusted_proxies = 10.0.0.0/8, ::1\nmax_worker_rss = 512M\nkeepalive_timeout = 2.5\numask = 0027\n"
        "http_keepalive = off\nmax_header_line = 8K\n"
    )
    assert settings.http.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))
    assert settings.daemon.max_worker_rss == 512 * 1024**2
    assert settings.daemon.umask == 0o027
    assert (settings.http.keepalive_timeout, settings.http.keepalive, settings.http.max_header_line) == (
        2.5,
        False,
        8192,
    )


def test_switches_on_the_command_line(load):
    assert load("", "--debug").log.debug is True
    assert load("[DEFAULT]\ndebug = true\n", "--no-debug").log.debug is False
    assert load("", "--http-keepalive=false").http.keepalive is False
    assert load("", "--http_keepalive", "off").http.keepalive is False


def test_underscores_on_the_command_line_are_dashes(load):
    assert load("", "--paste_deploy-app_name", "a_b").listeners[0].paste.app_name == "a_b"


def test_substitution_is_that_of_oslo_config(load):
    settings = load("[DEFAULT]\nbacklog = 77\npool_size = $backlog\naccess_log_format = %(path)s costs $$5\n")
    assert (settings.http.pool_size, settings.http.access_log_format) == (77, "%(path)s costs $5")


def test_explicit_files_keep_the_default_directories_out(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write("", "home/.apid/api-paste.ini")
    write("[DEFAULT]\nbacklog = 5\n", "home/.apid/apid.conf")
    write("[DEFAULT]\nworkers = 5\n", "home/.apid/apid.conf.d/10.conf")
    found = conf.load([], environ={})
    assert (found.daemon.backlog, found.daemon.workers) == (5, 5)
    named = conf.load(["--config-file", write("")], environ={})
    assert (named.daemon.backlog, named.daemon.workers) == (4096, min(len(os.sched_getaffinity(0)), 8))
    (tmp_path / "empty").mkdir()
    pipeline = f"--paste-deploy-config-file={tmp_path}/api-paste.ini"
    assert conf.load(["--config-dir", str(tmp_path / "empty"), pipeline], environ={}).files == ()


def test_a_config_dir_is_read_in_the_order_of_names(write, tmp_path):
    write("[DEFAULT]\nbacklog = 20\n", "conf.d/20.conf")
    write("[DEFAULT]\nbacklog = 10\n", "conf.d/10.conf")
    write("no configuration", "conf.d/30.conf.bak")
    write("", "conf.d/api-paste.ini")
    settings = conf.load(["--config-dir", str(tmp_path / "conf.d")], environ={})
    assert settings.daemon.backlog == 20
    assert [Path(file).name for file in settings.files] == ["10.conf", "20.conf"]


def test_pipeline_file_beside_the_configuration_comes_first(load, tmp_path):
    assert load().listeners[0].paste.config_file == str(tmp_path / "api-paste.ini")


def test_pipeline_file_falls_back_to_the_packaged_one(tmp_path):
    (tmp_path / "apid.conf").write_text("")
    if Path("/etc/apid/api-paste.ini").exists():
        pytest.skip("this machine has a pipeline of its own in /etc/apid")
    assert (
        conf.load(["--config-file", str(tmp_path / "apid.conf")], environ={}).listeners[0].paste.config_file == PACKAGED
    )


def test_relative_paths_are_relative_to_the_file_that_set_them(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write("", "sub/other.ini")
    path = write(
        "[DEFAULT]\npid_file = x.pid\nlog_file = y.log\n[paste_deploy]\nconfig_file = other.ini\n", "sub/apid.conf"
    )
    settings = conf.load(["--config-file", path], environ={})
    assert settings.daemon.pid_file == str(tmp_path / "sub/x.pid")
    assert settings.log.log_file == str(tmp_path / "sub/y.log")
    assert settings.listeners[0].paste.config_file == str(tmp_path / "sub/other.ini")
    assert conf.load(["--config-file", path, "--pid-file=x.pid"], environ={}).daemon.pid_file == "/x.pid"


def test_log_dir(load, tmp_path):
    assert load(f"[DEFAULT]\nlog_dir = {tmp_path}\n").log.log_file == str(tmp_path / "apid.log")
    assert load(f"[DEFAULT]\nlog_dir = {tmp_path}\nlog_file = b.log\n").log.log_file == str(tmp_path / "b.log")


def test_flavor(load):
    assert load("[paste_deploy]\napp_name = api\nflavor = keystone\n").listeners[0].paste.app_name == "api-keystone"


def test_further_listeners(load, tmp_path):
    (tmp_path / "admin.ini").write_text("")
    settings = load(
        "[DEFAULT]\nlisteners = admin, two\n[paste_deploy]\nflavor = keystone\n"
        "[listener:admin]\nbind = 127.0.0.1:8081\nbind = unix:a.sock\napp_name = admin\nflavor = dev\nconfig_file = admin.ini\n"
        "[listener:two]\nbind = 127.0.0.1:8082\n",
        **{"OS_LISTENER:TWO__APP_NAME": "second"},
    )
    main, admin, two = settings.listeners
    assert (main.name, admin.name, two.name) == ("main", "admin", "two")
    assert [str(address) for address in admin.addresses] == ["127.0.0.1:8081", f"unix:{tmp_path}/a.sock"]
    assert (admin.paste.app_name, admin.paste.config_file) == ("admin-dev", str(tmp_path / "admin.ini"))
    assert (two.paste.app_name, two.paste.config_file) == ("second", main.paste.config_file)
    assert ("listener:admin.app_name", "admin", f"{tmp_path}/apid.conf:8") in settings.sources


@pytest.mark.parametrize(
    ("text", "read", "expected"),
    [
        ("[DEFAULT]\nbind_ip = 0.0.0.0\n", lambda s: s.listeners[0].addresses[0].host, "0.0.0.0"),
        ("[DEFAULT]\nosapi_compute_listen_port = 8774\n", lambda s: s.listeners[0].addresses[0].port, 8774),
        ("[DEFAULT]\nosapi_compute_workers = 3\n", lambda s: s.daemon.workers, 3),
        ("[DEFAULT]\nworkers = auto\n", lambda s: s.daemon.workers, min(len(os.sched_getaffinity(0)), 8)),
        ("[DEFAULT]\nmax_clients = 12\n", lambda s: s.http.pool_size, 12),
        ("[DEFAULT]\nwsgi_default_pool_size = 12\n", lambda s: s.http.pool_size, 12),
        ("[wsgi]\ndefault_pool_size = 12\n", lambda s: s.http.pool_size, 12),
        ("[wsgi]\nkeep_alive = false\n", lambda s: s.http.keepalive, False),
        ("[DEFAULT]\nwsgi_keep_alive = false\n", lambda s: s.http.keepalive, False),
        ("[wsgi]\nclient_socket_timeout = 900\n", lambda s: s.http.client_socket_timeout, 900.0),
        ("[wsgi]\nmax_header_line = 4096\n", lambda s: s.http.max_header_line, 4096),
        ("[wsgi]\ntcp_keepidle = 7\n", lambda s: s.daemon.tcp_keepidle, 7),
        ("[DEFAULT]\nkeep_idle = 7\n", lambda s: s.daemon.tcp_keepidle, 7),
        ("[DEFAULT]\nlogfile = /tmp/x.log\n", lambda s: s.log.log_file, "/tmp/x.log"),
        ("[DEFAULT]\nlogdir = /tmp\n", lambda s: s.log.log_file, "/tmp/apid.log"),
        ("[DEFAULT]\napi_paste_config = /dev/null\n", lambda s: s.listeners[0].paste.config_file, "/dev/null"),
        ("[wsgi]\napi_paste_config = /dev/null\n", lambda s: s.listeners[0].paste.config_file, "/dev/null"),
    ],
)
def test_aliases_of_the_older_servers(load, caplog, text, read, expected):
    assert read(load(text)) == expected
    assert caplog.messages == []


def test_an_alias_is_named_as_the_source(load, tmp_path):
    where = {name: source for name, _, source in load("[wsgi]\nkeep_alive = false\n").sources}
    assert where["http_keepalive"] == f"{tmp_path}/apid.conf:2 (as [wsgi] keep_alive)"


def test_the_real_name_beats_an_alias_in_the_same_file(load, tmp_path):
    settings = load("[DEFAULT]\nmax_clients = 1\npool_size = 2\nmax_clients = 3\n")
    assert settings.http.pool_size == 2
    assert ("pool_size", "2", f"{tmp_path}/apid.conf:3") in settings.sources


def test_the_last_of_two_assignments_counts(load, tmp_path):
    settings = load("[DEFAULT]\nbacklog = 1\n\n[DEFAULT]\nbacklog = 2\n")
    assert settings.daemon.backlog == 2
    assert ("backlog", "2", f"{tmp_path}/apid.conf:5") in settings.sources


def test_command_line_object():
    line = conf.command_line(["--check-config", "--config-file", "a", "--config-dir=b", "--workers=3"])
    assert line.check_config
    assert line.named == (("file", "a"), ("dir", "b"))
    assert line.values == {(None, "workers"): ["3"]}
    assert not conf.command_line([]).check_config


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        conf.command_line(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in [
        "--check-config",
        "--version",
        "--config-file",
        "--config-dir",
        "--bind",
        "--ssl-cert-file",
        "--paste-deploy-flavor",
    ]:
        assert f" {flag}" in text


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        conf.command_line(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("apid 0.")


def test_importing_conf_brings_no_part_of_the_worker():
    code = (
        "import sys, apid.conf, apid.conf.opts, apid.log\n"
        "print(sorted({'eventlet', 'greenlet', 'paste.deploy', 'webob', 'routes'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
