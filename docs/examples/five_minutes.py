"""Five minutes with the Python SDK: stream tokens, interrupt and resume, look back.

    python docs/examples/five_minutes.py [URL]

Needs a server that serves the examples (`make dev`) and the package `langgraph-sdk`.
"""

import asyncio
import sys

from langgraph_sdk import get_client


async def main(url: str) -> None:
    client = get_client(url=url)

    print("# tokens, as the agent writes them")
    thread = await client.threads.create()
    question = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}]}
    async for part in client.runs.stream(
        thread["thread_id"], "chat_agent", input=question, stream_mode="messages-tuple"
    ):
        if part.event != "messages":
            continue
        message = part.data[0]
        # a tool's answer is a message too, but only the model's come in chunks
        if message["type"] == "AIMessageChunk" and message["content"]:
            print(message["content"], end="|", flush=True)
    print()

    print("# a graph that asks before it acts")
    thread = await client.threads.create()
    waiting = await client.runs.wait(thread["thread_id"], "human_in_the_loop", input={"topic": "the tea kitchen"})
    print("draft:  ", waiting["__interrupt__"][0]["value"]["draft"])
    print("thread: ", (await client.threads.get(thread["thread_id"]))["status"])

    print("# a person answers; seconds or weeks later, it makes no difference")
    answer = {"action": "edit", "draft": "Tea is at four."}
    done = await client.runs.wait(thread["thread_id"], "human_in_the_loop", command={"resume": answer})
    print("sent:   ", done["sent"])
    print("thread: ", (await client.threads.get(thread["thread_id"]))["status"])

    print("# every step is a checkpoint, newest first")
    for state in await client.threads.get_history(thread["thread_id"], limit=10):
        step, source = state["metadata"]["step"], state["metadata"]["source"]
        print(f"{step:>3} {source:<5} next: {', '.join(state['next']) or '-':<12} {sorted(state['values'])}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"))
