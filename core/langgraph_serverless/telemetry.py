"""Logs: one logger for the whole package, structured by ``extra``.

Every record that is an event carries ``action`` and the ids that it is about; about a run that is being executed those are
``run_id``, ``thread_id``, ``graph_id``, ``attempt`` and ``lease``, with the ``request_id`` of the request that made it
(``ClaimedRun.about``). Never what a run was given or made. What goes on in a request or a run is also said by every other line that
is written meanwhile, those of the user's code among them (``saying``, ``Context``).
On Lambda the handlers give it Powertools' JSON formatter; elsewhere ``configure_logging`` does. Every line, whoever has written
it, passes ``redaction`` last.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from langgraph_serverless.redaction import redacted

logger = logging.getLogger("langgraph_serverless")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


#: What goes on here, and what else is to be asked when a line is written.
_context: ContextVar[tuple[Mapping[str, Any], Callable[[], Mapping[str, Any]] | None]] = ContextVar(
    "log_context", default=({}, None)
)


class saying:
    """Have every line that is written meanwhile, in this task and in those that it begins, say these fields.

    A block like any other (``with saying(...)``); written as a class because every request passes it, and a generator costs more.
    """

    __slots__ = ("_said", "_token")

    def __init__(self, fields: Mapping[str, Any], also: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """``also`` is asked for further fields when a line is written, there."""
        self._said = (fields, also)

    def __enter__(self) -> None:
        self._token = _context.set(self._said)

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def said(field: str) -> Any:
    """What the lines that are written here say for this field; None if nothing."""
    return _context.get()[0].get(field)


class Context(logging.Filter):
    """Lets everything pass, with what goes on where it was written; what a line says itself counts."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields, also = _context.get()
        if also is not None:
            fields = {**fields, **also()}
        for name, value in fields.items():
            if name not in record.__dict__:
                setattr(record, name, value)
        return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return redacted(orjson.dumps(entry, default=str).decode())


class TextFormatter(logging.Formatter):
    """For people: time, level, message, then the extra fields. What a client has chosen begins no line and moves no cursor."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{key}={value}" for key, value in _extra(record).items() if value is not None)
        message = _visible(record.getMessage()).replace("\n", _CONTINUED)
        line = f"{at} {record.levelname.lower():<7} {message}"
        if fields:
            line += "  [" + _visible(fields).replace("\n", "\\n") + "]"
        if record.exc_info:
            line += "\n" + _visible(self.formatException(record.exc_info))
        return redacted(line)


#: What further lines of a message begin with, so that none can be taken for another record.
_CONTINUED = "\n                 | "
#: Controls but the line break and the tab, and the line breaks of Unicode.
_INVISIBLE = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}


def _visible(text: str) -> str:
    return text if text.isprintable() else text.translate(_INVISIBLE)


def configure_logging(level: str, *, json: bool) -> None:
    """Send the package's records to standard error; leaves the loggers of others alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    handler.addFilter(Context())
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
