"""Streams with the Python SDK: leave one and come back, follow a thread, and let the SDK sort a thread's events.

    python docs/examples/streams.py [URL]

Needs a server that serves the examples (`make dev`) and the package `langgraph-sdk`.
"""

import asyncio
import sys

from langgraph_sdk import get_client


def ask(question: str) -> dict:
    return {"messages": [{"role": "user", "content": question}]}


async def main(url: str) -> None:
    client = get_client(url=url)
    thread_id = (await client.threads.create())["thread_id"]

    print("# a run whose stream one can come back to; this client leaves after two words")
    run_id = last_event_id = ""
    words = 0
    async for part in client.runs.stream(
        thread_id, "chat_agent", input=ask("12 + 30"), stream_mode="messages-tuple", stream_resumable=True
    ):
        last_event_id = part.id
        if part.event == "metadata":
            run_id = part.data["run_id"]
        elif show(part):
            words += 1
            if words == 2:
                break

    print("\n# another one goes on after the last event that was seen, also when the run is over")
    async for part in client.runs.join_stream(thread_id, run_id, last_event_id=last_event_id):
        show(part)

    print("\n# a thread, whoever makes its runs: what is kept, then what happens; it has no end of its own")
    await client.runs.create(
        thread_id, "chat_agent", input=ask("3 + 4"), stream_mode="messages-tuple", stream_resumable=True
    )
    runs = 0
    async for part in await client.threads.join_stream(thread_id, last_event_id="0-0"):
        show(part)
        if part.event == "metadata" and part.data.get("status") == "run_done":
            print("run_done")
            runs += 1
            if runs == 2:
                break

    print("# protocol v2: the SDK makes a stream of each message")
    async with client.threads.stream(assistant_id="chat_agent") as thread:
        await thread.run.start(input=ask("What is the weather in Oslo?"))
        # each in a task of its own: its words come while this loop goes on
        spoken = [asyncio.create_task(say(message)) async for message in thread.messages]
        await asyncio.gather(*spoken)
        print("\nstored:", [message["type"] for message in (await thread.output)["messages"]])


def show(part) -> bool:
    """Prints what the model says, token by token."""
    if part.event != "messages":
        return False
    message, _ = part.data
    said = message["type"] == "AIMessageChunk" and bool(message["content"])
    if said:
        print(message["content"], end="|", flush=True)
    return said


async def say(message) -> None:
    async for word in message.text:
        print(word, end="|", flush=True)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"))
