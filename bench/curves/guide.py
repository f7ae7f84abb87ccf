"""Puts figures where people look for them: between markers in the guide, as pictures beside it, as data for later.

The words around the markers are written by hand and say what the figures mean; no figure of them is touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.curves.part import Part


class MarkerMissingError(Exception):
    """The guide has no place for a part."""


def publish(
    parts: Sequence[Part], machine: Mapping[str, Any], *, guide: Path, pictures: Path, figures: Path
) -> list[Path]:
    """The files that were written. Parts that were not measured now stay as they were, in the data too.

    Raises:
        MarkerMissingError: a part has no markers in the guide.
    """
    text = guide.read_text()
    kept: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    written = [guide, figures]
    pictures.mkdir(parents=True, exist_ok=True)
    for part in parts:
        text = replaced(text, part.name, part.markdown())
        kept[part.name] = {"machine": dict(machine), **asdict(part)}
        for name, picture in part.pictures.items():
            path = pictures / f"{name}.svg"
            path.write_text(picture.svg())
            written.append(path)
    guide.write_text(text)
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.write_text(json.dumps(kept, indent=1) + "\n")
    return written


def replaced(text: str, name: str, content: str) -> str:
    """The text with other content between the markers of this name.

    Raises:
        MarkerMissingError: there are none.
    """
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise MarkerMissingError(f"no place for {name!r}: {begin} ... {end} is missing")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
