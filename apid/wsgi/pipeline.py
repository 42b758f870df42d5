"""Choosing a pipeline by an option, as nova (`auth_strategy`) and glance (`flavor`) do.

    [composite:api]
    use = egg:apid#pipeline
    auth_strategy = keystone
    noauth = faultwrap sizelimit noauth api
    keystone = faultwrap sizelimit authtoken keystonecontext ratelimit api
    keystone_nolimit = faultwrap sizelimit authtoken keystonecontext api

Paste loads the parts; this module only picks the list and wraps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIApplication

_TRUE = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def build(loader: Any, names: str, global_conf: Mapping[str, str]) -> WSGIApplication:
    """Wrap an application, the last of the names, by its filters.

    Raises:
        ValueError: there are no names.
    """
    *filters, app_name = names.split() or [""]
    if not app_name:
        raise ValueError("the pipeline is empty: it needs at least the name of an application")
    made = [loader.get_filter(name, global_conf=global_conf) for name in filters]
    application: WSGIApplication = loader.get_app(app_name, global_conf=global_conf)
    for one in reversed(made):
        application = one(application)
    return application


def pipeline_factory(loader: Any, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
    """Make the pipeline of the authentication strategy (nova).

    Options: `auth_strategy` (else from [DEFAULT], else noauth), `rate_limit` or nova's `api_rate_limit` (true): when false,
    `<strategy>_nolimit` is taken where it exists. Every other option is a strategy with its pipeline.

    Raises:
        ValueError: the strategy has no pipeline, or an option has a bad value.
    """
    strategy = local_conf.pop("auth_strategy", None) or global_conf.get("auth_strategy", "noauth")
    limited = True
    for option in ("api_rate_limit", "rate_limit"):
        given = local_conf.pop(option, None) or global_conf.get(option)
        if given is not None:
            if given.lower() not in _TRUE:
                raise ValueError(f"pipeline: {option} is {given!r}; it can be true or false")
            limited = _TRUE[given.lower()]
    names = None if limited else local_conf.get(f"{strategy}_nolimit")
    names = names or local_conf.get(strategy)
    if names is None:
        raise ValueError(f"pipeline: no pipeline for auth_strategy = {strategy}; there are: {_known(local_conf)}")
    return build(loader, names, global_conf)


def flavor_factory(loader: Any, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
    """Make the pipeline of the flavor (glance): the option named as `flavor` says, or `default`.

    Raises:
        ValueError: the flavor has no pipeline.
    """
    flavor = local_conf.pop("flavor", None) or global_conf.get("flavor") or "default"
    names = local_conf.get(flavor)
    if names is None:
        raise ValueError(f"pipeline: no pipeline for flavor = {flavor}; there are: {_known(local_conf)}")
    return build(loader, names, global_conf)


def _known(local_conf: Mapping[str, str]) -> str:
    return ", ".join(sorted(local_conf)) or "none"
