"""One OpenAPI document for the server and the user's own application.

An operation of the user's replaces the server's of the same path and method, as its route does; all others are side by side. The
title, version and description are the user's. A schema of theirs whose name the server uses for another one gets a name of its own.
"""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]

_REFERENCE = "#/components/{kind}/{name}"
#: Put behind a name that is taken.
_OTHER = "_app"


def merged(server: Schema, user: Schema) -> Schema:
    """Both; neither is changed."""
    parts = server.get("components", {})
    user = _with_free_names(user, parts)
    components = {kind: dict(named) for kind, named in parts.items()}
    for kind, named in user.get("components", {}).items():
        components.setdefault(kind, {}).update(named)
    paths = {path: dict(item) for path, item in server["paths"].items()}
    for path, item in user.get("paths", {}).items():
        paths.setdefault(path, {}).update(item)
    tags = {tag["name"]: tag for tag in (*server.get("tags", ()), *user.get("tags", ()))}
    # what the server says of all its operations is not true of the user's
    if security := server.get("security"):
        for path, item in paths.items():
            for method, operation in item.items():
                if method not in user.get("paths", {}).get(path, {}) and isinstance(operation, dict):
                    item[method] = {"security": security, **operation}
    return {
        **{key: value for key, value in server.items() if key != "security"},
        "info": {**server["info"], **user["info"]},
        "tags": list(tags.values()),
        "paths": paths,
        "components": components,
    }


def _with_free_names(user: Schema, taken: Schema) -> Schema:
    text = json.dumps(user)
    renamed: list[tuple[str, str, str]] = []
    for kind, named in user.get("components", {}).items():
        for name, content in named.items():
            if taken.get(kind, {}).get(name, content) != content:
                renamed.append((kind, name, name + _OTHER))
                old, new = (_REFERENCE.format(kind=kind, name=each) for each in (name, name + _OTHER))
                text = text.replace(json.dumps(old), json.dumps(new))
    free: Schema = json.loads(text)
    for kind, name, other in renamed:
        free["components"][kind][other] = free["components"][kind].pop(name)
    return free
