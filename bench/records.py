"""Workloads that execute nothing: threads, their history and state, and the store."""

from __future__ import annotations

import uuid

from bench.client import WrongAnswerError
from bench.workloads import Figure, Visit, at_once, latencies, loop

#: Threads among which is searched, and the groups that they are in.
SEEDED, GROUPS = 2000, 20
#: Supersteps of the thread whose history is read.
STEPS = 20


async def threads(visit: Visit) -> list[Figure]:
    """Create and get threads, and search those of one group in 2,000, ten a page; by one client, and by 16 at once."""
    mark = uuid.uuid4().hex
    made: list[str] = []

    async def create(worker: int, number: int) -> None:
        made.append((await visit.client.json("POST", "/threads", {"metadata": {"bench": mark}}))["thread_id"])

    async def get(worker: int, number: int) -> None:
        thread = made[number % 20 % len(made)]
        if (await visit.client.json("GET", f"/threads/{thread}"))["thread_id"] != thread:
            raise WrongAnswerError("another thread was got")

    figures: list[Figure] = []
    for name, act in (("create", create), ("get", get)):
        figures += (await loop(visit, 1, 300, 2.0, act)).figures(f"{name} c1", "request", rate=False)
        figures += (await loop(visit, 16, 2000, 2.5, act)).figures(f"{name} c16", "request", rate=True)
    seeded = visit.times(SEEDED)
    numbers = iter(range(seeded))

    async def seed(worker: int) -> None:
        for number in numbers:
            metadata = {"seed": mark, "group": number % GROUPS}
            await visit.client.json("POST", "/threads", {"metadata": metadata})

    await at_once(16, 1, seed)

    async def search(worker: int, number: int) -> None:
        group = number % min(GROUPS, seeded)
        body = {"metadata": {"seed": mark, "group": group}, "limit": 10}
        found = await visit.client.json("POST", "/threads/search", body)
        there = len(range(group, seeded, GROUPS))
        if len(found) != min(10, there) or any(each["metadata"].get("group") != group for each in found):
            raise WrongAnswerError(f"{len(found)} of {there} threads were found, or others")

    figures += (await loop(visit, 1, 200, 2.0, search)).figures("search c1", "request", rate=False)
    figures += (await loop(visit, 16, 1200, 2.5, search)).figures("search c16", "request", rate=True)
    return figures


async def history(visit: Visit) -> list[Figure]:
    """The history of a run of 20 supersteps (at most 25 checkpoints), and its state."""
    path = f"/threads/{await visit.thread()}"
    await visit.client.json("POST", f"{path}/runs/wait", {"assistant_id": "steps", "input": {"steps": STEPS}})

    async def read(worker: int, number: int) -> None:
        found = await visit.client.json("POST", f"{path}/history", {"limit": 25})
        if len(found) < STEPS or found[0]["values"].get("step") != STEPS:
            raise WrongAnswerError(f"{len(found)} checkpoints, or others")

    async def state(worker: int, number: int) -> None:
        found = await visit.client.json("GET", f"{path}/state")
        if found["values"].get("step") != STEPS:
            raise WrongAnswerError(f"the state is {found['values']!r:.300}")

    return [
        *(await loop(visit, 1, 150, 2.0, read)).figures("history c1", "request", rate=False),
        *(await loop(visit, 8, 400, 2.5, read)).figures("history c8", "request", rate=True),
        *(await loop(visit, 1, 200, 1.5, state)).figures("state c1", "request", rate=False),
    ]


async def store(visit: Visit) -> list[Figure]:
    """Put, get and search items of a namespace; by one client, and by 16 at once."""
    namespace = ["bench", uuid.uuid4().hex]

    async def put(worker: int, number: int) -> None:
        value = {"text": f"value {number}", "group": number % 20, "pad": "x" * 200}
        item = {"namespace": namespace, "key": f"k{number % 500}", "value": value}
        await visit.client.json("PUT", "/store/items", item)

    async def get(worker: int, number: int) -> None:
        key = f"k{number % 20}"
        found = await visit.client.json("GET", f"/store/items?namespace={'.'.join(namespace)}&key={key}")
        if found["key"] != key:
            raise WrongAnswerError("another item was got")

    async def search(worker: int, number: int) -> None:
        found = await visit.client.json("POST", "/store/items/search", {"namespace_prefix": namespace, "limit": 10})
        if len(found["items"]) != 10:
            raise WrongAnswerError(f"{len(found['items'])} items were found")

    for number in range(20):
        await put(0, number)
    figures: list[Figure] = []
    for name, act in (("put", put), ("get", get), ("search", search)):
        alone = await loop(visit, 1, 150, 1.0, act)
        many = await loop(visit, 16, 800, 1.5, act)
        figures += [*latencies(f"{name} c1", alone.took), *many.figures(f"{name} c16", "request", rate=True)]
    return figures
