"""A model that never waits for anything holds the worker's event loop; its words reach clients all the same, while it writes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cluster import Cluster
from workload import assert_invariants

#: Seconds for one stream, of which the model itself would take ten if nobody heard it.
PATIENCE = 60.0


async def test_the_first_words_reach_a_client_while_a_model_that_never_waits_writes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.worker()
    for mode in ("messages-tuple", "messages", "events"):
        answer = await _heard(cluster, tmp_path / mode, "fluent", mode)
        assert answer["log"] == ["heard"], mode
    # nothing can be sent of what holds the loop as a whole; but it is not waited for after each word either
    (tmp_path / "at once").touch()
    answer = await _heard(cluster, tmp_path / "at once", "fluent_in_blocks", "messages-tuple")
    assert answer["log"] == ["heard"]
    await assert_invariants(cluster.database_uri)


async def _heard(cluster: Cluster, file: Path, graph: str, mode: str) -> Any:
    """The run's output; the file appears with the first word."""
    given = {"name": str(file), "steps": 1, "seconds": 0}
    answer: Any = None
    async with asyncio.timeout(PATIENCE), cluster.client() as client:
        async for part in client.runs.stream(None, graph, input=given, stream_mode=["values", mode]):
            if part.event.startswith("messages") or "on_chat_model_stream" in str(part.data)[:100]:
                file.touch()
            elif part.event == "values":
                answer = part.data
    return answer
