"""Who is asking: what an authentication filter found out, as the controllers see it (`req.context`).

A filter puts one into the environ under `KEY`; which filter, and how it knows, is not this module's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "apid.context"


@dataclass(frozen=True, kw_only=True)
class Context:
    """The identity behind one request.

    Attributes:
        user_id: the user; None when nobody was authenticated.
        project_id: the project (tenant) whose things are asked for.
        user_name: the user's name, where known.
        project_name: the project's name, where known.
        roles: the role names.
        is_admin: whether the filter counts this request as an administrator's.
        request_id: the request's own id.
        global_request_id: the id that the caller gave, for tracing across services.
        auth_token: the token, for calls to other services. Never logged: it is left out of `repr`.
        service_catalog: Keystone's catalogue, where the filter has it.
        extra: what else a filter wants to pass on.
    """

    user_id: str | None = None
    project_id: str | None = None
    user_name: str | None = None
    project_name: str | None = None
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    request_id: str = ""
    global_request_id: str | None = None
    auth_token: str | None = field(default=None, repr=False)
    service_catalog: Any = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
