"""Who is calling: every use case takes the caller first, so that authorisation has one place per use case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from langgraph_serverless.domain.users import STUDIO_USER, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller. Without an auth handler everybody is ``ANONYMOUS``."""

    identity: str = ""
    permissions: Sequence[str] = ()
    #: The user that the auth handler returned, as JSON; None without one.
    user: Mapping[str, Any] | None = field(default=None)
    #: Whose rows these are, where rows are kept apart by tenant; empty without tenants.
    tenant: str = ""
    #: The handler's own object, for handlers that look at its type; it does not outlive the request.
    native: Any = field(default=None, repr=False, compare=False)
    #: The project's own code, for nobody in particular: no handler is asked what it may do.
    trusted: bool = False

    @property
    def is_studio(self) -> bool:
        """Whether this is Studio, let in without authentication."""
        return self.user is not None and self.user.get("kind") == STUDIO_KIND

    def as_user(self) -> User | None:
        """The user as graphs see one; None without authentication."""
        return User(self.user) if self.user is not None else None

    @classmethod
    def of_user(cls, document: Mapping[str, Any], *, tenant: str = "", native: Any = None) -> Self:
        """The caller that this user is (``domain.users.user_document``)."""
        user = User(document)
        return cls(
            identity=user.identity,
            permissions=tuple(user.permissions),
            user=dict(document),
            tenant=tenant,
            native=native,
        )

    def to_json(self) -> dict[str, Any]:
        """What it takes to act as this caller later, or in another function."""
        return {
            "identity": self.identity,
            "permissions": list(self.permissions),
            "user": dict(self.user) if self.user is not None else None,
            "tenant": self.tenant,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``."""
        return cls(
            identity=value["identity"],
            permissions=tuple(value["permissions"]),
            user=value["user"],
            tenant=value.get("tenant", ""),
        )


#: Marks Studio in the document of its user. Nobody else's has this key with this value (``auth/authentication.py``).
STUDIO_KIND = "StudioUser"
ANONYMOUS = Principal()
#: The project's own code in a server's process, outside of a run.
SERVER = Principal(trusted=True)
STUDIO = Principal.of_user(
    {
        "identity": STUDIO_USER,
        "display_name": STUDIO_USER,
        "is_authenticated": True,
        "permissions": ["authenticated"],
        "kind": STUDIO_KIND,
    }
)
