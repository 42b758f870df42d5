"""The default API under the names that nova's api-paste.ini of 2013 has for applications; the filters are in apid.wsgi.nova."""

from __future__ import annotations

from apid.api.app import API, versions_factory


class Versions:
    """`paste.app_factory = apid.api.nova:Versions.factory`."""

    factory = staticmethod(versions_factory)


class APIRouter(API):
    """`paste.app_factory = apid.api.nova:APIRouter.factory`."""
