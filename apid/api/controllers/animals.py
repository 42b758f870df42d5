"""/animals: list, show, create, update, delete, adopt, release.

A project sees only its own animals; an administrator sees all with `all_projects=1`. Microversions: 1.1 adds tags; 1.2 answers an
action with the animal (200) instead of nothing (202).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from apid.api.db import animals
from apid.api.db.animals import NameTakenError, StaleError
from apid.api.schemas import animals as schemas
from apid.wsgi import faults, links
from apid.wsgi.controller import action, expected_errors, response, window
from apid.wsgi.microversions import APIVersion
from apid.wsgi.paging import Page, unknown_marker
from apid.wsgi.response import ResponseObject
from apid.wsgi.validation import body_schema, query_schema

if TYPE_CHECKING:
    import sqlalchemy as sa

    from apid.api.db.animals import Animal
    from apid.api.db.connection import Database
    from apid.wsgi.request import Request

T = TypeVar("T")

NOBODYS = "default"
"""The project of requests that no authentication filter has put into one."""


class AnimalsController:
    """Animals.

    Args:
        database: where they are. quota: how many a project may have; -1 is unlimited.
    """

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._quota = quota

    @expected_errors(400, 503)
    @query_schema(schemas.LIST)
    def index(self, req: Request, query: dict[str, Any], **_: Any) -> Any:
        """List animals: id, name and links."""
        return self._list(req, query, _brief, animals.BRIEF)

    @expected_errors(400, 503)
    @query_schema(schemas.LIST)
    def detail(self, req: Request, query: dict[str, Any], **_: Any) -> Any:
        """List animals with all there is to know."""
        return self._list(req, query, _view, animals.ALL)

    def _list(
        self,
        req: Request,
        query: dict[str, Any],
        view: Callable[[Request, Animal, str], Any],
        columns: tuple[str, ...],
    ) -> Any:
        page = Page.of(req, sort_keys=animals.SORT_KEYS)
        if query.get("all_projects") and not req.context.is_admin:
            raise faults.Forbidden("Only an administrator may list the animals of all projects.")
        project = None if query.get("all_projects") else _project(req)
        filters: dict[str, str] = {name: query[name] for name in ("name", "species", "status") if name in query}
        short = animals.is_short(project, filters, limit=page.limit, offset=page.offset, sort=page.sort)
        found = (self._database.look_up if short else self._database.read)(
            req.environ,
            lambda connection: animals.page(
                connection,
                project,
                filters,
                limit=page.limit,
                marker=page.marker,
                offset=page.offset,
                sort=page.sort,
                columns=columns,
            ),
        )
        if found is None:
            raise unknown_marker(page.marker or "")
        base = _base(req)
        return page.document(
            req, "animals", [view(req, animal, base) for animal in found], lambda item: str(item["id"])
        )

    @expected_errors(400, 404, 503)
    @query_schema(schemas.NOTHING)
    def show(self, req: Request, id: str, **_: Any) -> Any:  # noqa: A002 - the route's name
        """Show one animal, with its ETag."""
        return _answer(req, self._database.look_up(req.environ, lambda connection: _find(req, connection, id)))

    @response(201)
    @expected_errors(400, 403, 409, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.CREATE, None, "1.0")
    @body_schema(schemas.CREATE_1_1, "1.1")
    def create(self, req: Request, body: dict[str, Any], **_: Any) -> Any:
        """Create an animal."""
        project = _project(req)

        def work(connection: sa.Connection) -> Animal:
            if not animals.fits(connection, project, self._quota):
                raise faults.Forbidden(f"Quota exceeded: {self._quota} animals.", error="quota.exceeded")
            return animals.create(connection, project, body["animal"])

        made = self._write(req, work)
        return _answer(req, made, 201, {"Location": _base(req) + made["id"]})

    @expected_errors(400, 404, 409, 412, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.UPDATE, None, "1.0")
    @body_schema(schemas.UPDATE_1_1, "1.1")
    def update(self, req: Request, id: str, body: dict[str, Any], **_: Any) -> Any:  # noqa: A002 - as above
        """Replace what can be set of an animal."""
        values = body["animal"] if _tagged(req) is False else {"tags": [], **body["animal"]}
        return _answer(req, self._change(req, id, lambda _: values))

    @expected_errors(400, 404, 409, 412, 415, 428, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.PATCH)
    def patch(self, req: Request, id: str, body: dict[str, Any], **_: Any) -> Any:  # noqa: A002 - as above
        """Change an animal by a merge patch (RFC 7396); If-Match is required (RFC 6585, 3)."""
        if "HTTP_IF_MATCH" not in req.environ:
            raise faults.PreconditionRequired("A PATCH needs If-Match with the ETag of what it changes.")
        if "tags" in body and not _tagged(req):
            raise faults.BadRequest("Invalid body: tags came with microversion 1.1.", error="validation.failed")
        values = {**body, "tags": body["tags"] or []} if "tags" in body else body
        return _answer(req, self._change(req, id, lambda _: values))

    @response(204)
    @expected_errors(400, 404, 409, 412, 503)
    @query_schema(schemas.NOTHING)
    def delete(self, req: Request, id: str, **_: Any) -> None:  # noqa: A002 - as above
        """Delete an animal."""

        def work(connection: sa.Connection) -> None:
            animal = _find(req, connection, id)
            _preconditions(req, animal)
            animals.delete(connection, animal)

        self._write(req, work)

    @action("adopt")
    @response(202)
    @window("1.0", "1.1")
    @expected_errors(400, 404, 409, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.ADOPT)
    def adopt(self, req: Request, id: str, body: dict[str, Any], **_: Any) -> Any:  # noqa: A002 - as above
        """Adopt an animal."""
        self._adopt(req, id, body["adopt"]["by"])

    @action("adopt")  # type: ignore[no-redef]  # the same name in another window
    @window("1.2")
    @expected_errors(400, 404, 409, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.ADOPT)
    def adopt(self, req: Request, id: str, body: dict[str, Any], **_: Any) -> Any:  # noqa: A002, F811 - as above
        """Adopt an animal, and say how it is now."""
        return _answer(req, self._adopt(req, id, body["adopt"]["by"]))

    @action("release")
    @response(202)
    @window("1.0", "1.1")
    @expected_errors(400, 404, 409, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.RELEASE)
    def release(self, req: Request, id: str, **_: Any) -> Any:  # noqa: A002 - as above
        """Give an animal back."""
        self._release(req, id)

    @action("release")  # type: ignore[no-redef]  # the same name in another window
    @window("1.2")
    @expected_errors(400, 404, 409, 503)
    @query_schema(schemas.NOTHING)
    @body_schema(schemas.RELEASE)
    def release(self, req: Request, id: str, **_: Any) -> Any:  # noqa: A002, F811 - as above
        """Give an animal back, and say how it is now."""
        return _answer(req, self._release(req, id))

    def _adopt(self, req: Request, id: str, by: str) -> Animal:  # noqa: A002 - as above
        def values(animal: Animal) -> dict[str, Any]:
            if animal["status"] != "available":
                raise faults.Conflict("The animal is adopted already.", error="animal.adopted")
            return {"status": "adopted", "adopted_by": by}

        return self._change(req, id, values)

    def _release(self, req: Request, id: str) -> Animal:  # noqa: A002 - as above
        def values(animal: Animal) -> dict[str, Any]:
            if animal["status"] != "adopted":
                raise faults.Conflict("The animal is not adopted.", error="animal.available")
            return {"status": "available", "adopted_by": ""}

        return self._change(req, id, values)

    def _change(self, req: Request, id: str, values: Callable[[Animal], dict[str, Any]]) -> Animal:  # noqa: A002 - as above
        def work(connection: sa.Connection) -> Animal:
            animal = _find(req, connection, id)
            _preconditions(req, animal)
            return animals.update(connection, animal, values(animal))

        return self._write(req, work)

    def _write(self, req: Request, work: Callable[[sa.Connection], T]) -> T:
        try:
            return self._database.write(req.environ, work)
        except NameTakenError:
            raise faults.Conflict("The project has an animal of this name.", error="animal.name_taken") from None
        except StaleError:
            if "HTTP_IF_MATCH" in req.environ:
                raise faults.PreconditionFailed("The animal has changed meanwhile.") from None
            raise faults.Conflict("The animal has changed meanwhile; try again.", error="animal.stale") from None


def _project(req: Request) -> str:
    return req.context.project_id or NOBODYS


def _find(req: Request, connection: sa.Connection, id: str) -> Animal:  # noqa: A002 - as above
    animal = animals.find(connection, None if req.context.is_admin else _project(req), id)
    if animal is None:
        raise faults.NotFound(f"There is no animal {id[:64]!r}.")
    return animal


def _etag(animal: Animal) -> str:
    return f'"{animal["id"]}-{animal["revision"]}"'


def _preconditions(req: Request, animal: Animal) -> None:
    """Hold a change against If-Match (RFC 9110, 13.1.1: strong comparison, so a weak tag matches nothing) and If-None-Match."""
    wanted = req.environ.get("HTTP_IF_MATCH")
    if wanted is not None and wanted.strip() != "*" and _etag(animal) not in _tags(wanted):
        raise faults.PreconditionFailed("The animal has changed: its ETag is not the one in If-Match.")
    unwanted = req.environ.get("HTTP_IF_NONE_MATCH")
    if unwanted is not None and {"*", _etag(animal)} & {tag.removeprefix("W/") for tag in _tags(unwanted)}:
        raise faults.PreconditionFailed("There is an animal, and its ETag is in If-None-Match.")


def _tags(header: str) -> list[str]:
    return [tag.strip() for tag in header.split(",")]


def _base(req: Request) -> str:
    return f"{links.application_url(req.environ)}/animals/"


def _links(base: str, animal: Animal) -> list[dict[str, str]]:
    return [{"rel": "self", "href": base + animal["id"]}]


def _brief(_: Request, animal: Animal, base: str) -> dict[str, Any]:
    return {"id": animal["id"], "name": animal["name"], "links": _links(base, animal)}


def _tagged(req: Request) -> bool:
    version = req.api_version
    return version is not None and version >= APIVersion(1, 1)


def _view(req: Request, animal: Animal, base: str) -> dict[str, Any]:
    shown = ("id", "project_id", "name", "species", "status", "adopted_by", "created_at", "updated_at")
    document = {name: animal[name] for name in shown}
    if _tagged(req):
        document["tags"] = animal["tags"]
    return {**document, "links": _links(base, animal)}


def _answer(
    req: Request, animal: Animal, code: int | None = None, headers: dict[str, str] | None = None
) -> ResponseObject:
    return ResponseObject({"animal": _view(req, animal, _base(req))}, code, {"ETag": _etag(animal), **(headers or {})})
