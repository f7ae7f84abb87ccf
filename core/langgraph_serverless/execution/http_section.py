"""The section ``http`` of langgraph.json, checked.

``read_http`` promises ``HttpSettings`` in which every value has its type and means what it says, or a one-sentence ``ProjectError``
that names the file and the key. The object that ``app`` names is looked at when it is loaded (``http/user_app.py``).

Credentials for any origin are refused: browsers would send cookies with whatever any page asks, and the pages could read the answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.http_settings import (
    AUTH_FIRST,
    GROUPS,
    MIDDLEWARE_FIRST,
    CorsSettings,
    HeaderRules,
    HttpSettings,
    is_origin,
)
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import parse_target

#: The command line's documentation has the plural, older projects the rest.
_RULE_KEYS: Mapping[str, str] = {
    "includes": "includes",
    "include": "includes",
    "excludes": "excludes",
    "exclude": "excludes",
}
_HEADER_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "configurable_headers": ("configurable_headers", "configurable-headers"),
    "logging_headers": ("logging_headers", "logging-headers"),
}
_CORS_KEYS = frozenset(each.name for each in fields(CorsSettings))
#: What a header's name may be made of (RFC 9110), and the wildcard.
_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
#: No page of a real project has one of these origins.
_STRANGERS = ("https://stranger.invalid", "http://stranger.invalid:8080", "null")


def read_http(section: Mapping[str, Any] | None, root: Path, config_path: Path) -> HttpSettings:
    """What the section says; without one, the defaults."""
    section, key = section or {}, f"{config_path}: http"
    app = section.get("app")
    if app is not None:
        if not isinstance(app, str):
            raise ProjectError(f"{key}.app must be './file.py:name' of a Starlette or FastAPI application.")
        parse_target(root, app, key=f"{key}.app")
    order = section.get("middleware_order")
    if order not in (None, MIDDLEWARE_FIRST, AUTH_FIRST):
        raise ProjectError(f"{key}.middleware_order must be '{MIDDLEWARE_FIRST}' or '{AUTH_FIRST}'.")
    return HttpSettings(
        app=app,
        mount_prefix=_prefix(section.get("mount_prefix"), f"{key}.mount_prefix"),
        disabled=frozenset(group for group in GROUPS if _flag(section, f"disable_{group}", key)),
        cors=_cors(section.get("cors"), f"{key}.cors"),
        configurable_headers=_rules(section, "configurable_headers", key),
        logging_headers=_rules(section, "logging_headers", key),
        auth_first=order == AUTH_FIRST,
        enable_custom_route_auth=_flag(section, "enable_custom_route_auth", key),
    )


def _flag(section: Mapping[str, Any], name: str, key: str) -> bool:
    value = section.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProjectError(f"{key}.{name} must be true or false.")
    return bool(value)


def _prefix(value: Any, key: str) -> str:
    prefix = "" if value is None else value
    if not isinstance(prefix, str):
        raise ProjectError(f"{key} must be a path such as '/api'.")
    prefix = prefix.rstrip("/")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ProjectError(
            f"{key}: {value!r} must begin with a slash and have letters, digits, '-', '_', '.' and '~', as '/api'."
        )
    return prefix


def _rules(section: Mapping[str, Any], name: str, key: str) -> HeaderRules:
    given = [(spelling, section[spelling]) for spelling in _HEADER_SECTIONS[name] if section.get(spelling) is not None]
    if not given:
        return HeaderRules()
    if len(given) > 1:
        raise ProjectError(f"{key}.{given[0][0]} and {key}.{given[1][0]} mean the same; give one of them.")
    spelling, rules = given[0]
    where = f"{key}.{spelling}"
    if not isinstance(rules, dict):
        raise ProjectError(f"{where} must be an object with 'includes' and 'excludes'.")
    found: dict[str, tuple[str, ...]] = {}
    for written, meant in _RULE_KEYS.items():
        patterns = rules.get(written)
        if patterns is None:
            continue
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise ProjectError(f"{where}.{written} must be a list of headers, in which '*' stands for any text.")
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern):
                raise ProjectError(f"{where}.{written}: {pattern!r} is not the name of a header.")
        found[meant] = (*found.get(meant, ()), *(each.lower() for each in patterns))
    return HeaderRules(**found)


def _cors(cors: Any, key: str) -> CorsSettings | None:
    if cors is None:
        return None
    if not isinstance(cors, dict):
        raise ProjectError(f"{key} must be an object.")
    given = {name: _cors_value(name, cors[name], f"{key}.{name}") for name in _CORS_KEYS if cors.get(name) is not None}
    settings = CorsSettings(**given)
    for origin in settings.allow_origins:
        if origin != "*" and not is_origin(origin):
            raise ProjectError(
                f"{key}.allow_origins: {origin!r} is no origin as browsers send one, such as 'https://chat.example.com'."
            )
    for name in ("allow_methods", "allow_headers", "expose_headers"):
        for each in getattr(settings, name):
            if not _PATTERN.fullmatch(each):
                raise ProjectError(f"{key}.{name}: {each!r} cannot be in a header.")
    _refuse_credentials_for_all(settings, key)
    return settings


def _cors_value(name: str, value: Any, key: str) -> Any:
    if name == "allow_credentials":
        if not isinstance(value, bool):
            raise ProjectError(f"{key} must be true or false.")
    elif name == "max_age":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31 - 1:
            raise ProjectError(f"{key} must be a number of seconds.")
    elif name == "allow_origin_regex":
        _check_regex(value, key)
    elif not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ProjectError(f"{key} must be a list of strings.")
    else:
        return tuple(value)
    return value


def _check_regex(value: Any, key: str) -> None:
    if not isinstance(value, str):
        raise ProjectError(f"{key} must be a regular expression.")
    try:
        re.compile(value)
    except re.error as error:
        raise ProjectError(f"{key} is not a regular expression: {error}.") from error


def _refuse_credentials_for_all(settings: CorsSettings, key: str) -> None:
    if not settings.allow_credentials:
        return
    regex = settings.allow_origin_regex
    if "*" in settings.allow_origins:
        how = "allow_origins ('*')"
    elif regex and any(re.fullmatch(regex, origin) for origin in _STRANGERS):
        how = f"allow_origin_regex ({regex!r})"
    else:
        return
    raise ProjectError(
        f"{key}.allow_credentials together with {how} would let every page in the world act with the cookies of your users;"
        " name the origins, or leave allow_credentials out."
    )
