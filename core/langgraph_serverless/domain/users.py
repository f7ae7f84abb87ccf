"""The user that an authentication has found, as handlers and graphs see one.

``User`` has the attributes of ``langgraph_sdk.auth.types.BaseUser`` and every further key that the authentication returned, as
attribute and as item. It is made of plain JSON, so that a run or a cron that is stored with it has the same one later.
``user_document`` turns what a handler returns (a dict, an object, a string) into that JSON.

Relies on nothing, not even on the SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from langgraph_serverless.errors import BadRequestError

#: What every user has; the handler need only say the first.
FIELDS = ("identity", "display_name", "is_authenticated", "permissions")
#: Studio's requests act as this user, where they are let in without authentication.
STUDIO_USER = "langgraph-studio-user"


class User:
    """A user: attributes and items."""

    __slots__ = ("_document",)

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)

    @property
    def identity(self) -> str:
        return str(self._document["identity"])

    @property
    def display_name(self) -> str:
        return str(self._document.get("display_name") or self.identity)

    @property
    def is_authenticated(self) -> bool:
        return bool(self._document.get("is_authenticated", True))

    @property
    def permissions(self) -> list[str]:
        return list(self._document.get("permissions") or ())

    def __getattr__(self, name: str) -> Any:
        # copying and unpickling ask for attributes before there is a document
        if name.startswith("_") or name not in self._document:
            raise AttributeError(f"the user has no {name!r}")
        return self._document[name]

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key) if key in FIELDS else self._document[key]

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return key in FIELDS or key in self._document

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*FIELDS, *self._document)))

    def keys(self) -> Iterator[str]:
        return iter(self)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def to_json(self) -> dict[str, Any]:
        return {key: self[key] for key in self}

    #: What serialisers of models look for.
    dict = model_dump = to_json

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        # the rest may be secret
        return f"User(identity={self.identity!r})"


def user_document(returned: Any) -> dict[str, Any]:
    """What an authentication handler has returned, as plain JSON with all ``FIELDS``.

    Raises:
        BadRequestError: it is no user.
    """
    if isinstance(returned, str):
        found: dict[str, Any] = {"identity": returned}
    elif isinstance(returned, Mapping):
        found = dict(returned)
    elif hasattr(returned, "identity"):
        found = _document_of(returned)
    else:
        raise _no_user(returned)
    identity = found.get("identity")
    if not isinstance(identity, str) or not identity:
        raise _no_user(returned)
    permissions = found.get("permissions")
    if isinstance(permissions, str):
        permissions = [permissions]
    document = {
        **found,
        "display_name": found.get("display_name") or identity,
        "is_authenticated": found.get("is_authenticated", True),
        "permissions": [str(each) for each in permissions or ()],
    }
    # whatever else is in it is stored with runs
    plain: dict[str, Any] = orjson.loads(orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS))
    return plain


def _document_of(user: Any) -> dict[str, Any]:
    """The fields of an object, and its further items or attributes."""
    found: dict[str, Any] = {}
    for name in ("model_dump", "dict", "to_dict"):
        dumped = getattr(user, name, None)
        if callable(dumped) and isinstance(content := dumped(), Mapping):
            found = dict(content)
            break
    else:
        if hasattr(user, "keys") and hasattr(user, "__getitem__"):
            found = {str(key): user[key] for key in user.keys()}  # noqa: SIM118 - it need not be a mapping
        elif hasattr(user, "__dict__"):
            found = {name: value for name, value in vars(user).items() if not name.startswith("_")}
    for name in FIELDS:
        if (value := getattr(user, name, None)) is not None and not callable(value):
            found[name] = value
    return found


def _no_user(returned: Any) -> BadRequestError:
    return BadRequestError(
        "Expected a BaseUser instance with required property: identity (str). "
        f"Optional properties: display_name, is_authenticated, permissions. Got {type(returned).__name__}."
    )
