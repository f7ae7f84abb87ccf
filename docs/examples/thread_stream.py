"""A thread as the Python SDK streams it: words and tools as they come, a question and its answer, commands by hand.

    python docs/examples/thread_stream.py [URL]

Needs a server that serves the examples (`make dev`) and the package `langgraph-sdk`.
"""

import asyncio
import sys

import httpx
from langgraph_sdk import get_client


async def main(url: str) -> None:
    client = get_client(url=url)

    print("# a chat: every message is a stream of its own")
    async with client.threads.stream(assistant_id="chat_agent") as thread:
        await thread.run.start(input={"messages": [{"role": "user", "content": "What is 2 + 3?"}]})
        spoken = [asyncio.create_task(read(message)) async for message in thread.messages]
        print([await words for words in spoken])
        print("stored:", [message["type"] for message in (await thread.output)["messages"]])

    print("# the same over a WebSocket, with a question that somebody answers")
    async with client.threads.stream(assistant_id="human_in_the_loop", transport="websocket") as thread:
        await thread.run.start(input={"topic": "tea"})
        async for _state in thread.values:
            pass  # until the run stops
        print("asked:", thread.interrupted, len(thread.interrupts))
        await thread.run.respond("approve")
        print("then:", (await thread.output)["status"])

        print("# what the SDK sends are commands; anybody may")
        commands = f"{url}/threads/{thread.thread_id}/commands"
        async with httpx.AsyncClient() as http:
            for method, params in (
                ("state.get", {"namespace": [], "keys": ["status"]}),
                ("input.respond", {"namespace": [], "interrupt_id": "unknown", "response": "late"}),
            ):
                answer = (await http.post(commands, json={"id": 1, "method": method, "params": params})).json()
                print(method, answer.get("error") or answer["result"]["values"])


async def read(message) -> list[str]:
    return [word async for word in message.text]


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"))
