"""The applications of the default API, as api-paste.ini names them: the list of versions at the root, and version 1."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

from sqlalchemy import exc

from apid.api import routes, versions
from apid.api.db import migrate
from apid.api.db.connection import CONNECTION, default_url, shared
from apid.wsgi import kinds
from apid.wsgi.apirouter import APIRouter
from apid.wsgi.extensions import ExtensionManager
from apid.wsgi.factory import app_factory, option
from apid.wsgi.versions import VersionsApp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIApplication

    from apid.api.db.connection import Database


LOG = logging.getLogger(__name__)


class API(APIRouter):
    """Version 1. Its extensions are the entry points of the group `apid.api.v1.extensions`.

    Args:
        database: where its things are. quota: how many animals a project may have; -1 is unlimited.
        extensions: the manager; made from the group when None.
    """

    extension_namespace = "apid.api.v1.extensions"
    microversions = versions.MICROVERSIONS

    def __init__(self, database: Database, quota: int = -1, extensions: ExtensionManager | None = None) -> None:
        self.ROUTES = routes.routes(database, quota)  # type: ignore[misc]  # one table an application, not a class
        super().__init__(None, extensions)

    def connect_all(self) -> None:
        """Connect all, and the list of extensions also below the project, as everything else is."""
        super().connect_all()
        self.connect_listing("/{project_id}")

    @classmethod
    def factory(cls, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
        """Make the application for Paste Deploy; options: those of APIOptions.

        Raises:
            OptionError: an option is wrong. SchemaError: the database needs `apidctl db upgrade` first.
        """
        return _api_factory(global_conf, **local_conf)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class APIOptions:
    """What the ini section of version 1 may say."""

    connection: str = option(
        kinds.text,
        default="",
        help="The database, as SQLAlchemy spells it; what [database] connection of the daemon says when empty, and SQLite in the "
        "state directory when none is configured.",
    )
    pool_size: int = option(
        kinds.integer(minimum=1, maximum=1000), default=10, help="Connections to the database, of each worker."
    )
    quota_animals: int = option(
        kinds.integer(minimum=-1), default=10000, help="Animals that a project may have; -1 is unlimited."
    )
    extensions_allow: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=(), help="Aliases of the only extensions to load; all when empty."
    )
    extensions_deny: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=(), help="Aliases of extensions not to load."
    )


def _api(options: APIOptions) -> API:
    database = shared(options.connection or os.environ.get(CONNECTION) or default_url(), options.pool_size)
    if database.sqlite:
        migrate.prepare_sqlite(database)
    else:
        _check(database)
    manager = ExtensionManager(API.extension_namespace, allow=options.extensions_allow, deny=options.extensions_deny)
    return API(database, options.quota_animals, manager)


def _check(database: Database) -> None:
    """Refuse a schema that is not ours; a database that is merely away must not stop a start: requests get 503 until it is back.

    Raises:
        SchemaError: run `apidctl db upgrade` first.
    """
    try:
        migrate.check(database)
    except exc.OperationalError as error:
        LOG.warning("the database is not available yet: %s", str(error.__cause__ or error).strip())


_api_factory = app_factory("api", APIOptions, _api)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VersionsOptions:
    """What the ini section of the list of versions may say."""

    code: str = option(
        kinds.choice("300", "200"), default="300", help="The status of the list: glance's 300, nova's 200."
    )
    public_endpoint: str = option(kinds.text, default="", help="What clients see instead of scheme and host.")


def _versions(options: VersionsOptions) -> VersionsApp:
    return VersionsApp(versions.ALL, int(options.code), options.public_endpoint)


versions_factory = app_factory("versions", VersionsOptions, _versions)
