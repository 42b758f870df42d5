"""From values with their origins to `Settings`: what no single option can check alone.

Whatever can be known before anything starts is checked here: files that must be readable, users that must exist, addresses
given twice.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from apid.conf import database, identity, listener, paste_deploy, text
from apid.conf.files import anchored
from apid.conf.server import default_workers
from apid.conf.settings import POOL_SIZES, Address, Daemon, Hooks, Http, Listener, Log, Paste, Settings
from apid.conf.tls import build_tls
from apid.conf.types import check_unix_path
from apid.conf.values import Value, Values
from apid.errors import ConfigError
from apid.forwarded import DEFAULT_HEADERS

PACKAGED = str(Path(__file__).parents[1] / "api" / paste_deploy.DEFAULT_CONFIG_FILE)
"""The default pipeline, found by path: the configuration may not import the default API."""

SYSTEM = f"/etc/apid/{paste_deploy.DEFAULT_CONFIG_FILE}"


_OF_A_LISTENER = ("trusted_proxies", "trusted_proxy_headers", "allowed_hosts")
_HTTP_NAMES = [
    f.name
    for f in dataclasses.fields(Http)
    if f.name not in ("keepalive", "pool_size", "access_log", "access_log_format", "where")
]


def build(values: Values, files: tuple[str, ...]) -> Settings:
    """Return the settings.

    Raises:
        ConfigError: values that do not fit together, or do not fit this machine.
    """
    effective = {value.name: value.text for value in values}
    log = _log(values, effective)
    http = _http(values, effective)
    listeners = tuple(_listeners(values, files, effective, http))
    _refuse_duplicates(listeners, values)
    _check_proxies(listeners, values)
    daemon = _daemon(values, effective)
    if values["database", "connection"].value:
        effective["database.connection"] = database.masked(values["database", "connection"].value)
    sources = tuple((value.name, effective[value.name], str(value.origin)) for value in values)
    database_url = values["database", "connection"].value or ""
    return Settings(daemon, http, log, listeners, files, sources, database_url, hooks=_hooks(values))


def _hooks(values: Values) -> Hooks:
    names = ("after_load", "after_fork", "before_exit")
    given = {name: values[name].value or "" for name in names}
    return Hooks(**given, where={name: values[name].where for name in names})


def _daemon(values: Values, effective: dict[str, str]) -> Daemon:
    workers = values["workers"].value
    if workers is None:
        workers = default_workers()
        effective["workers"] = str(workers)
    _check_identity(values)
    for name in ("pid_file", "control_socket"):
        if values[name].value is not None:
            _check_parent_directory(values[name], values[name].value)
    if values["control_socket"].value is not None:
        try:
            check_unix_path(values["control_socket"].value)
        except ValueError as error:
            raise values["control_socket"].error(str(error)) from None
    if values["max_requests_jitter"].value and not values["max_requests"].value:
        raise values["max_requests_jitter"].error("has no meaning without max_requests")
    if values["umask"].value is not None:
        effective["umask"] = f"{values['umask'].value:04o}"
    same = {f.name: values[f.name].value for f in dataclasses.fields(Daemon) if f.name != "workers"}
    return Daemon(workers, **same)


def _check_identity(values: Values) -> None:
    for name, known in (("user", identity.user), ("group", identity.group)):
        if values[name].value is not None:
            try:
                known(values[name].value)
            except ValueError as error:
                raise values[name].error(str(error)) from None


def _check_parent_directory(value: Value, path: str) -> None:
    directory = str(Path(path).parent)
    if not value.is_directory(directory):
        raise value.error(f"there is no directory {directory}")
    if value.is_directory(path):
        raise value.error(f"{path} is a directory")


def _http(values: Values, effective: dict[str, str]) -> Http:
    access_log = values["access_log"]
    target = access_log.value
    if target not in ("-", "off"):
        try:
            target = access_log.origin.absolute(target)
        except ValueError as error:
            raise access_log.error(str(error)) from None
        _check_parent_directory(access_log, target)
        effective["access_log"] = target
    if values["max_header_line"].value > values["max_header_size"].value:
        text = (
            f"is more than max_header_size ({values['max_header_size'].value}), which holds all header lines together"
        )
        raise values["max_header_line"].error(text)
    pool_size = values["pool_size"].value or POOL_SIZES[values["engine"].value]
    effective["pool_size"] = str(pool_size)
    return Http(
        pool_size=pool_size,
        keepalive=values["http_keepalive"].value,
        access_log=target,
        access_log_format=values["access_log_format"].value or "",
        where={name: values[name].where for name in ("engine", "pool_size", "access_log", "access_log_format")},
        **{name: values[name].value for name in _HTTP_NAMES},
    )


def _log(values: Values, effective: dict[str, str]) -> Log:
    log_file, log_dir = values["log_file"], values["log_dir"]
    path = log_file.value
    if path is not None:
        try:
            path = anchored(path, log_dir.value) if log_dir.value is not None else log_file.origin.absolute(path)
            path = os.path.normpath(path)
        except ValueError as error:
            raise log_file.error(str(error)) from None  # noqa: TRY400 - log_file is a Value, no logger
        _check_parent_directory(log_file, path)
    elif log_dir.value is not None:
        if not log_dir.is_directory(log_dir.value):
            raise log_dir.error("there is no such directory")
        path = os.path.join(log_dir.value, "apid.log")
    effective["log_file"] = path or ""
    if values["use_journal"].value and path is not None:
        raise values["use_journal"].error(f"the log goes to {path} already: choose one of the two")
    if values["use_journal"].value and values["use_json"].value:
        raise values["use_json"].error("has no meaning with use_journal: the journal has fields of its own")
    append, held = values["log_config_append"], ""
    if append.value is not None:
        append.check_readable()
        try:
            held = text.read(append.value)
        except text.TextError as error:
            raise append.error(f"{append.value}:{error.line}: {error.reason}") from None
    return Log(
        debug=values["debug"].value,
        log_file=path,
        use_json=values["use_json"].value,
        use_journal=values["use_journal"].value,
        log_config_append=append.value,
        log_config=held,
    )


def _listeners(values: Values, files: tuple[str, ...], effective: dict[str, str], http: Http) -> Iterator[Listener]:
    config_file = _pipeline_file(values, files)
    effective["paste_deploy.config_file"] = config_file
    yield Listener(
        "main", _main_addresses(values), _paste(values, "paste_deploy", config_file), build_tls(values, "ssl"), http
    )
    for name in values["listeners"].value:
        group = listener.PREFIX + name
        bind = values[group, "bind"]
        if not bind.value:
            raise values["listeners"].error(f"[{group}] needs the option bind, for example bind = 127.0.0.1:8081")
        own = values[group, "config_file"]
        if own.value is not None:
            own.check_readable()
        effective[f"{group}.config_file"] = own.value or config_file
        given = {option: values[group, option].value for option in _OF_A_LISTENER}
        for option in (option for option, value in given.items() if value is None):
            effective[f"{group}.{option}"] = values[option].text
        yield Listener(
            name,
            bind.value,
            _paste(values, group, own.value or config_file),
            build_tls(values, group),
            dataclasses.replace(http, **{option: value for option, value in given.items() if value is not None}),
        )


def _main_addresses(values: Values) -> tuple[Address, ...]:
    bind: tuple[Address, ...] = values["bind"].value
    return bind or (Address("tcp", host=values["bind_host"].value, port=values["bind_port"].value),)


def _paste(values: Values, group: str, config_file: str) -> Paste:
    flavor = values[group, "flavor"].value
    app_name = values[group, "app_name"].value
    own = values[group, "config_file"]
    option = own if own.value is not None else values["paste_deploy", "config_file"]
    return Paste(config_file, f"{app_name}-{flavor}" if flavor else app_name, option.where)


def _pipeline_file(values: Values, files: tuple[str, ...]) -> str:
    own = values["paste_deploy", "config_file"]
    if own.value is not None:
        own.check_readable()
        path: str = own.value
        return path
    beside = [str(Path(file).parent / paste_deploy.DEFAULT_CONFIG_FILE) for file in files]
    places = list(dict.fromkeys([*beside, SYSTEM, PACKAGED]))
    for place in places:
        try:
            Path(place).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(
                f"[paste_deploy] config_file is not set, and {place} cannot be reached: {error.strerror}"
            ) from error
        return place
    raise ConfigError(f"[paste_deploy] config_file is not set, and there is none of {', '.join(places)}")


def _refuse_duplicates(listeners: tuple[Listener, ...], values: Values) -> None:
    seen: dict[Address, str] = {}
    for each in listeners:
        for address in each.addresses:
            if address.kind == "tcp" and address.port == 0:  # each one becomes a port of its own
                continue
            if address in seen:
                group = None if each.name == "main" else listener.PREFIX + each.name
                text = f"the address {address} is given twice, in the listeners {seen[address]} and {each.name}"
                raise values[group, "bind"].error(
                    text if seen[address] != each.name else f"the address {address} is given twice"
                )
            seen[address] = each.name


def _check_proxies(listeners: tuple[Listener, ...], values: Values) -> None:
    trusting = [each for each in listeners if each.http.trusted_proxies]
    if values["proxy_protocol"].value and not trusting:
        raise values["proxy_protocol"].error(
            "needs trusted_proxies: a PROXY header is believed from those addresses only"
        )
    for each in listeners:
        believed = trusting if each.name == "main" else [each] if each in trusting else []
        named = values[listener.PREFIX + each.name if each.name != "main" else None, "trusted_proxy_headers"]
        if named.value not in (None, DEFAULT_HEADERS) and not believed:
            raise named.error("has no meaning without trusted_proxies")
