"""What ``make curves`` does runs against real processes in a tiny form, and comes to tables, pictures and data; the figures are nobody's business here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dev_server import free_port

from bench.curves import FIGURES, GUIDE, PICTURES, storage, streams, threads, workers
from bench.curves.__main__ import PARTS
from bench.curves.guide import MarkerMissingError, publish, replaced
from bench.curves.part import Part, Picture, Table
from bench.curves.site import Site
from bench.pictures import line_chart

TINY = 0.01


@pytest.fixture(scope="module")
def site(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    uri = databases.create()
    environ = {"REDIS_KEY_PREFIX": f"curves-{free_port()}"}
    yield Site(tmp_path_factory.mktemp("curves"), uri, redis_uri, environ=environ)
    databases.drop(uri)


async def test_all_curves_come_to_figures(site: Site, tmp_path: Path) -> None:
    with site.serve() as api, site.workers(1) as started:
        ran, waited = await workers.look(site, api, started, TINY)
        parts = [
            workers.part([ran], [waited]),
            await streams.look(api, TINY, (0, 100, 500)),
            await storage.look(site, api, TINY),
            await threads.look(site, api, TINY, (10_000, 20_000)),
        ]
    assert {part.name for part in parts} == PARTS.keys()
    for part in parts:
        numbers = [cell for table in part.tables for row in table.rows for cell in row if isinstance(cell, float | int)]
        assert numbers
        assert all(math.isfinite(number) for number in numbers)
        for picture in part.pictures.values():
            assert all(points for points in picture.lines.values())
            assert "nan" not in picture.svg()
    guide = tmp_path / "guide.md"
    guide.write_text("".join(f"{name}\n<!-- measured: {name} -->\n<!-- end of {name} -->\nwords\n" for name in PARTS))
    publish(parts, {"processors": 2}, guide=guide, pictures=tmp_path, figures=tmp_path / "curves.json")
    text = guide.read_text()
    assert all(f"\n{part.markdown()}\n" in text for part in parts)
    assert text.count("words") == len(parts)
    assert json.loads((tmp_path / "curves.json").read_text()).keys() == PARTS.keys()
    assert {path.stem for path in tmp_path.glob("*.svg")} == {name for part in parts for name in part.pictures}


def test_a_part_that_was_not_measured_stays(tmp_path: Path) -> None:
    paths: Any = {"guide": tmp_path / "guide.md", "pictures": tmp_path, "figures": tmp_path / "data" / "curves.json"}
    places = "".join(f"<!-- measured: {name} -->\n<!-- end of {name} -->\n" for name in "ab")
    paths["guide"].write_text(places)
    for name, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        publish([Part(name, [Table(("what", "much"), [["x", value]])])], {}, **paths)
    assert re.findall(r"\| x \| (\d) \|", paths["guide"].read_text()) == ["3", "2"]
    assert json.loads(paths["figures"].read_text())["b"]["tables"][0]["rows"] == [["x", 2.0]]
    with pytest.raises(MarkerMissingError, match="'c'"):
        replaced(places, "c", "")


def test_the_guide_has_a_place_for_every_part_and_shows_what_is_kept() -> None:
    text = GUIDE.read_text()
    kept = json.loads(FIGURES.read_text())
    for name in PARTS:
        replaced(text, name, "")
        part = _part(name, kept[name])
        assert f"\n{part.markdown()}\n" in text, f"the guide's tables of {name} are not those of {FIGURES.name}"
        for file, picture in part.pictures.items():
            assert (PICTURES / f"{file}.svg").read_text() == picture.svg()


def _part(name: str, kept: dict[str, Any]) -> Part:
    tables = [Table(table["head"], table["rows"]) for table in kept["tables"]]
    return Part(name, tables, {file: Picture(**picture) for file, picture in kept["pictures"].items()})


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(1, 5), (1000, 7.5)], [(0, 0), (4, 1234.5)]])
@pytest.mark.parametrize("log", [True, False])
def test_pictures_bear_any_figures(points: Sequence[tuple[float, float]], log: bool) -> None:
    drawn = line_chart("a < b", "x", "y", {"line": points}, log_x=log, log_y=log)
    assert "a &lt; b" in drawn
    assert not re.search(r"nan|inf", drawn)
