"""The example files for containers as Python objects, and what an image's Dockerfile says about how it is run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "infra" / "container"


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, with lines that go on put together."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", plain).splitlines()
    return [(word, rest) for line in lines if line.strip() for word, _, rest in [line.strip().partition(" ")]]


def last(text: str, word: str) -> str:
    """What the final stage says last."""
    return [rest for name, rest in instructions(text) if name == word][-1]


def health_command(text: str) -> list[str]:
    command: list[str] = json.loads(last(text, "HEALTHCHECK").partition("CMD ")[2])
    return command


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    return document


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    documents = yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}
