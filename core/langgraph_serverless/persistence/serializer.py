"""What checkpoints, writes and cached results are written and read with: LangGraph's msgpack, strictly.

Promises that reading calls nothing but classes that are known before: LangGraph's list of safe ones, those that the schemas of the
project's graphs name (the manifest, and LangGraph itself for each graph), and those in ``checkpointer.serde`` of langgraph.json. An
instance of another class is read back as the plain data that it was made of, and the log says once per class, already when it is
written, which key brings it back. What was pickled is neither written nor read, and documents of LangChain's (``lc``) stay documents.

Relies on ``LANGGRAPH_STRICT_MSGPACK``, which ``langgraph_serverless/__init__.py`` sets before langgraph can be imported. Never
imports a module because a stored value names it, unless the class is allowed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES, STRICT_MSGPACK_ENABLED
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_serverless.errors import StartupError, UnreadableValueError
from langgraph_serverless.telemetry import logger

#: Distinct classes that a process says something about.
MOST_WARNINGS = 1000
_READ = frozenset({"null", "bytes", "bytearray", "json", "msgpack"})


class ProjectSerializer(JsonPlusSerializer):
    """``JsonPlusSerializer`` with an allow-list, and words for what is not on it."""

    def __init__(
        self, allowed: Iterable[tuple[str, str]] = (), *, allowed_json: Collection[tuple[str, ...]] = frozenset()
    ) -> None:
        """``allowed`` are modules and names of classes; ``allowed_json`` each part of a module, then the name."""
        if not STRICT_MSGPACK_ENABLED:
            raise StartupError(
                "langgraph was imported before langgraph_serverless, and would call whatever a checkpoint names: set"
                " LANGGRAPH_STRICT_MSGPACK=true, or import langgraph_serverless first."
            )
        # the safe ones are on it as well, so that LangGraph finds nothing to add to most graphs' lists
        super().__init__(allowed_msgpack_modules=[*SAFE_MSGPACK_TYPES, *allowed], allowed_json_modules=allowed_json)
        self._known: set[type] = set()
        _listen()

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> JsonPlusSerializer:
        """This one, or a copy that allows more."""
        clone = super().with_msgpack_allowlist(extra_allowlist)
        if clone is not self and isinstance(clone, ProjectSerializer):
            clone._known = set()
        return clone

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The kind of the bytes, and the bytes.

        Raises:
            TypeError: it holds what only pickle could write.
        """
        if obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        refused: list[str] = []

        def default(value: Any) -> Any:
            cls = type(value)
            try:
                written = jsonplus._msgpack_default(value)
            except TypeError:
                refused.append(f"{cls.__module__}.{cls.__qualname__}")
                raise
            if cls not in self._known:
                self._look_at(cls)
            return written

        try:
            return "msgpack", ormsgpack.packb(obj, default=default, option=jsonplus._option)
        except ormsgpack.MsgpackEncodeError as error:
            if not refused:
                raise
            raise TypeError(
                f"A value of the class {refused[0]} cannot be kept in a checkpoint: it must be plain data, a dataclass, a"
                " pydantic model or an enum. Nothing is pickled here."
            ) from error

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value.

        Raises:
            UnreadableValueError: it is of a kind that is never read, such as a pickle.
        """
        kind, content = data
        if kind not in _READ:
            raise UnreadableValueError(f"A stored value is of the kind '{kind[:32]}', which is not read.")
        if kind == "json":
            return json.loads(content, object_hook=self._reviver)
        return super().loads_typed(data)

    def _reviver(self, value: dict[str, Any]) -> Any:
        """An old document's constructor, if it is allowed by name; LangChain's own way to load would make any of its classes."""
        if value.get("lc") != 2 or value.get("type") != "constructor" or not isinstance(value.get("id"), list):
            return value
        parts = tuple(map(str, value["id"]))
        if len(parts) < 2:
            return value
        listed = self._allowed_json_modules
        if (".".join(parts[:-1]), parts[-1]) in SAFE_MSGPACK_TYPES or (isinstance(listed, set) and parts in listed):
            return self._revive_lc2(value)
        _say_once(
            "json_not_allowed",
            "a stored document holds a %s.%s, which is left as it is; checkpointer.serde.allowed_json_modules"
            " in langgraph.json allows it: %s",
            (".".join(parts[:-1]), parts[-1]),
        )
        return value

    def _look_at(self, cls: type) -> None:
        """Say that a class will not be read back, before anybody has to find out."""
        key = (cls.__module__, cls.__name__)
        allowed = self._allowed_msgpack_modules
        if key in _OWN_FORM or issubclass(cls, BaseException) or key[0] == "numpy":
            pass  # written without the class's name
        elif not (isinstance(allowed, set) and key in allowed):
            _not_allowed(key)
        elif len(self._known) < MOST_WARNINGS:
            self._known.add(cls)


#: written as what makes it: ``re.compile``
_OWN_FORM = frozenset({("re", "Pattern"), ("langgraph.checkpoint.serde.types", "_DeltaSnapshot")})


#: How LangGraph begins to say the same.
_ITS_LINE = "Blocked deserialization of %s.%s - not in"


def _not_allowed(key: tuple[str, str]) -> None:
    _say_once(
        "class_not_allowed",
        "the state holds a %s.%s, which no schema of a graph names: it is stored, and read back as plain data, not as that class;"
        " checkpointer.serde.allowed_msgpack_modules in langgraph.json allows it: %s",
        key,
    )


def _say_once(action: str, message: str, key: tuple[str, str]) -> None:
    said = _said()
    if len(said) < MOST_WARNINGS and (action, key) not in said:
        said.add((action, key))
        logger.warning(message, *key, json.dumps([list(key)]), extra={"action": action})


@cache
def _said() -> set[tuple[str, tuple[str, str]]]:
    """What this process has said."""
    return set()


@cache
def _listen() -> None:
    """Have LangGraph tell what it has not made; once in a process, as it keeps its listeners for ever."""
    register_serde_event_listener(_heard)
    # LangGraph's own line has no word of langgraph.json, and would follow each of ours
    logging.getLogger(jsonplus.__name__).addFilter(lambda record: not str(record.msg).startswith(_ITS_LINE))


def _heard(event: SerdeEvent) -> None:
    if event["kind"] == "msgpack_blocked":
        _not_allowed((str(event["module"]), str(event["name"])))
