"""The Python SDK beyond the first five minutes: follow a run from elsewhere, fork, search, remember.

    python docs/examples/python_client.py [URL]

Needs a server that serves the examples (`make dev`) and the package `langgraph-sdk`.
"""

import asyncio
import sys
import uuid

from langgraph_sdk import get_client, get_sync_client


async def main(url: str) -> None:
    client = get_client(url=url)
    user = str(uuid.uuid4())

    print("# a run in the background; its stream can be read from anywhere, and read on after the last event seen")
    thread = await client.threads.create(metadata={"user": user})
    run = await client.runs.create(
        thread["thread_id"],
        "long_run",
        input={"steps": 4, "seconds": 0.1},
        stream_mode="custom",
        stream_resumable=True,
    )
    last = "0"
    async for part in client.runs.join_stream(thread["thread_id"], run["run_id"], last_event_id=last):
        last = part.id
        if part.event == "custom" and part.data["step"] == 2:
            print("left after step 2")
            break
    async for part in client.runs.join_stream(thread["thread_id"], run["run_id"], last_event_id=last):
        print(part.event, part.data)
    print("joined:", (await client.runs.join(thread["thread_id"], run["run_id"]))["log"])

    print("# from an earlier checkpoint, another way")
    draft = await client.threads.create(metadata={"user": user})
    await client.runs.wait(draft["thread_id"], "human_in_the_loop", input={"topic": "tea"})
    asked = await client.threads.get_state(draft["thread_id"])
    first = await client.runs.wait(draft["thread_id"], "human_in_the_loop", command={"resume": {"action": "reject"}})
    await client.runs.wait(draft["thread_id"], "human_in_the_loop", input=None, checkpoint=asked["checkpoint"])
    second = await client.runs.wait(draft["thread_id"], "human_in_the_loop", command={"resume": "approve"})
    print(first["status"], "at first, then", second["status"])

    print("# a user's threads, newest first")
    for found in await client.threads.search(metadata={"user": user}, extract={"log": "values.log[-1]"}):
        print(found["status"], found["metadata"]["graph_id"], found["extracted"])

    print("# what outlives threads")
    context = {"user_id": user}
    hello = {"messages": [{"role": "user", "content": "Hello, my name is Ada!"}]}
    await client.runs.wait(None, "chat_agent", input=hello, context=context)
    for item in (await client.store.search_items(("memories", user)))["items"]:
        print(item["key"], item["value"])


def without_asyncio(url: str) -> None:
    print("# the same client, synchronous")
    with get_sync_client(url=url) as client:
        for part in client.runs.stream(None, "minimal", input={"text": "hello"}, stream_mode="updates"):
            print(part.event, "" if part.event == "metadata" else part.data)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"
    asyncio.run(main(address))
    without_asyncio(address)
