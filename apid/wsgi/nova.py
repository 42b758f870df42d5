"""Nova's names of 2013: its api-paste.ini works when only the module names before the colons become `apid.wsgi.nova`.

    paste.filter_factory = nova.api.openstack.auth:NoAuthMiddleware.factory
    paste.filter_factory = apid.wsgi.nova:NoAuthMiddleware.factory

Each name is imported when its section is loaded. The applications of an ini (`APIRouter`, `Versions`) are the API's own; the
default API has them in `apid.api.nova`. docs/FROM_NOVA_AND_GLANCE.md has the whole table.
"""

from __future__ import annotations

import importlib
from typing import Any

from apid.wsgi.pipeline import flavor_factory, pipeline_factory
from apid.wsgi.urlmap import factory as urlmap_factory

__all__ = [
    "CORS",
    "ComputeReqIdMiddleware",
    "FaultWrapper",
    "HTTPProxyToWSGI",
    "InjectContext",
    "NoAuthMiddleware",
    "NoAuthMiddlewareOld",
    "NovaKeystoneContext",
    "RateLimitingMiddleware",
    "RequestBodySizeLimiter",
    "RequestId",
    "filter_factory",
    "flavor_factory",
    "pipeline_factory",
    "urlmap_factory",
]


class _Named:
    """A name with a `factory`, as the classes of nova have one; the filter behind it is imported when it is called."""

    def __init__(self, module: str, attribute: str = "factory", **defaults: str) -> None:
        self._module, self._attribute, self._defaults = module, attribute, defaults

    def factory(self, global_conf: Any = None, **local_conf: Any) -> Any:
        """Make the filter for Paste Deploy; its options are those of the filter of the same purpose."""
        make = getattr(importlib.import_module(f"apid.wsgi.middleware.{self._module}"), self._attribute)
        return make(global_conf, **{**self._defaults, **local_conf})


FaultWrapper = _Named("faultwrap")
RequestBodySizeLimiter = _Named("sizelimit")
NoAuthMiddleware = _Named("noauth")
NoAuthMiddlewareOld = _Named("noauth")
RateLimitingMiddleware = _Named("ratelimit")
NovaKeystoneContext = InjectContext = _Named("keystonecontext")
ComputeReqIdMiddleware = _Named("requestid", compat_headers="x-compute-request-id")
RequestId = _Named("requestid")
HTTPProxyToWSGI = _Named("proxyheaders")
CORS = _Named("cors")


def filter_factory(global_conf: Any = None, **local_conf: Any) -> Any:
    """authtoken, where nova's ini says `keystoneclient.middleware.auth_token:filter_factory`."""
    return _Named("authtoken").factory(global_conf, **local_conf)
