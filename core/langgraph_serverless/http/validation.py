"""Turns pydantic's findings into the text that clients of a LangGraph server know.

One error is reported, in three blocks: what is wrong, which keyword of the schema says so, and where in the request::

    "bad" is not one of "raise" or "do_nothing"

    Failed validating "enum" in schema["properties"]["if_exists"]

    On instance["if_exists"]:
        "bad"

Values are shown as JSON and cut off, as a request may be large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.errors import InvalidInputError

_LONGEST_VALUE = 200

_TYPES = {
    "string_type": "string",
    "string_sub_type": "string",
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "float_parsing": "number",
    "bool_type": "boolean",
    "dict_type": "object",
    "mapping_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
    "dataclass_type": "object",
    "list_type": "array",
    "set_type": "array",
    "tuple_type": "array",
    "none_required": "null",
}


def invalid_input(errors: Sequence[ErrorDetails], document: Any) -> InvalidInputError:
    """The error for the first finding in a request's ``document``."""
    error = errors[0]
    if error["type"] == "uuid_parsing" and (noun := _id_of(error["loc"])):
        # as for ids in paths
        return InvalidInputError(f"Invalid {noun} ID: must be a UUID")
    path, instance = _reachable(error["loc"], document)
    if len(path) < len(error["loc"]) - (error["type"] == "missing"):
        # the rest of the location names branches of a union, which only the schema has
        message = f"{show(instance)} is not valid under any of the schemas listed in the 'anyOf' keyword"
        keyword = "anyOf"
    else:
        message, keyword = _describe(error, instance)
    return InvalidInputError(
        f'{message}\n\nFailed validating "{keyword}" in schema{_schema_path(path)}'
        f"\n\nOn instance{_instance_path(path)}:\n    {show(instance)}"
    )


def refuse_nul(value: Any, path: tuple[int | str, ...] = ()) -> None:
    """Refuse a NUL character in a field that is text: a name, a key, an id. In documents of JSON it is dropped later.

    Raises:
        InvalidInputError: names the field.
    """
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if not _may_be_anything(field.annotation):
                refuse_nul(getattr(value, name), (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_nul(item, (*path, index))
    elif isinstance(value, str) and "\0" in value:
        raise InvalidInputError(
            f'{show(value)} holds a NUL character\n\nFailed validating "pattern" in schema{_schema_path(path)}'
            f"\n\nOn instance{_instance_path(path)}:\n    {show(value)}"
        )


def _may_be_anything(annotation: Any) -> bool:
    return annotation is Any or any(_may_be_anything(part) for part in get_args(annotation))


def show(value: Any) -> str:
    """A value as JSON, not too long."""
    text = dump_json(value).decode()
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _id_of(location: Sequence[int | str]) -> str:
    """``thread`` for ``thread_id`` and for an item of ``thread_ids``; nothing for other fields."""
    names = [step for step in location if isinstance(step, str)]
    found = re.fullmatch("(assistant|thread|run)_ids?", names[-1]) if names else None
    return found[1] if found else ""


def _reachable(location: Sequence[int | str], document: Any) -> tuple[list[int | str], Any]:
    """The part of the location that exists in the document, and what is there."""
    path: list[int | str] = []
    for step in location:
        try:
            # a step is a key, an index, or the name of a union's branch, which no document has
            document = document[step]
        except (KeyError, IndexError, TypeError):
            break
        path.append(step)
    return path, document


def _count(noun: str, number: Any) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_Message = Callable[[str, Mapping[str, Any]], str]

#: Pydantic's type of error -> the schema's keyword and the sentence.
_SENTENCES: Mapping[str, tuple[str, _Message]] = {
    "greater_than_equal": ("minimum", lambda value, ctx: f"{value} is less than the minimum of {ctx['ge']}"),
    "less_than_equal": ("maximum", lambda value, ctx: f"{value} is greater than the maximum of {ctx['le']}"),
    "greater_than": (
        "exclusiveMinimum",
        lambda value, ctx: f"{value} is less than or equal to the minimum of {ctx['gt']}",
    ),
    "less_than": (
        "exclusiveMaximum",
        lambda value, ctx: f"{value} is greater than or equal to the maximum of {ctx['lt']}",
    ),
    "string_too_short": (
        "minLength",
        lambda value, ctx: f"{value} is shorter than {_count('character', ctx['min_length'])}",
    ),
    "string_too_long": (
        "maxLength",
        lambda value, ctx: f"{value} is longer than {_count('character', ctx['max_length'])}",
    ),
    "too_short": ("minItems", lambda value, ctx: f"{value} has less than {_count('item', ctx['min_length'])}"),
    "too_long": ("maxItems", lambda value, ctx: f"{value} has more than {_count('item', ctx['max_length'])}"),
    "literal_error": ("enum", lambda value, ctx: f"{value} is not one of {_candidates(ctx)}"),
    "enum": ("enum", lambda value, ctx: f"{value} is not one of {_candidates(ctx)}"),
    "uuid_parsing": ("format", lambda value, _ctx: f'{value} is not a "uuid"'),
    "uuid_type": ("type", lambda value, _ctx: f'{value} is not of type "string"'),
    "string_pattern_mismatch": ("pattern", lambda value, ctx: f"{value} does not match {ctx['pattern']}"),
    "finite_number": ("type", lambda value, _ctx: f"{value} is not a finite number"),
}


def _candidates(context: Mapping[str, Any]) -> str:
    """``"a", "b" or "c"``; of more than three, the first two and how many more there are."""
    words = [f'"{word}"' for word in re.findall("'([^']*)'", str(context["expected"]))]
    if len(words) > 3:
        return f"{', '.join(words[:2])} or {len(words) - 2} other candidates"
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _describe(error: ErrorDetails, instance: Any) -> tuple[str, str]:
    kind = error["type"]
    if kind == "missing":
        return f'"{error["loc"][-1]}" is a required property', "required"
    if kind in {"literal_error", "enum"} and not isinstance(instance, str):
        return f'{show(instance)} is not of type "string"', "type"
    if kind in _TYPES:
        return f'{show(instance)} is not of type "{_TYPES[kind]}"', "type"
    if kind == "too_long" and isinstance(instance, dict):
        return f"{show(instance)} has more than {error['ctx']['max_length']} properties", "maxProperties"
    if kind in _SENTENCES:
        keyword, sentence = _SENTENCES[kind]
        return sentence(show(instance), error.get("ctx", {})), keyword
    # a validator of our own, whose text is made for people and whose type is the keyword
    return error["msg"].removeprefix("Value error, "), kind


def _schema_path(path: Sequence[int | str]) -> str:
    return "".join('["items"]' if isinstance(step, int) else f'["properties"]["{step}"]' for step in path)


def _instance_path(path: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f'["{step}"]' for step in path)
