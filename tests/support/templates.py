"""CloudFormation's templates as plain data, for tests of what is in them.

Short tags are written out (``!Ref x`` is ``{"Ref": "x"}``, ``!Sub x`` is ``{"Fn::Sub": "x"}``), anchors are followed, and nothing is
evaluated: ``branches`` gives everything that a value may become, whatever the conditions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
NOTHING = {"Ref": "AWS::NoValue"}
Template = dict[str, Any]


class TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags."""


def _tag(loader: TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


TemplateLoader.add_multi_constructor("!", _tag)


def load(path: Path) -> Template:
    template: Template = yaml.load(path.read_text(), TemplateLoader)
    return template


def load_root() -> Template:
    return load(ROOT / "template.yaml")


def load_nested() -> dict[str, Template]:
    """Every template below ``infra`` by its file's name."""
    return {path.stem: load(path) for path in sorted((ROOT / "infra").glob("*.yaml"))}


def branches(value: Any) -> Iterator[Any]:
    """What an ``Fn::If`` may become, or the value itself."""
    if isinstance(value, dict) and set(value) == {"Fn::If"}:
        for each in value["Fn::If"][1:]:
            yield from branches(each)
    elif value != NOTHING:
        yield value


def items(value: Any) -> list[Any]:
    """One or several, each in all of its branches."""
    return [
        each
        for branch in branches(value)
        for entry in (branch if isinstance(branch, list) else [branch])
        for each in branches(entry)
    ]


def text(value: Any) -> str:
    """A string in the form of ``Fn::Sub``: ``!Ref x`` is ``${x}``, ``!GetAtt x.Arn`` is ``${x.Arn}``."""
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": str(name)}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": str(pattern)}:
            return pattern
    raise AssertionError(f"not a string that this test can read: {value}")
