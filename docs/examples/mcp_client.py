"""Assistants as tools, with the official client of the Model Context Protocol (``pip install mcp``).

python docs/examples/mcp_client.py [URL]
"""

import asyncio
import sys

from mcp import Client


async def main(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        print("version", client.protocol_version)
        for tool in sorted((await client.list_tools()).tools, key=lambda tool: tool.name):
            if tool.title in ("chat_agent", "long_run", "minimal"):
                print(tool.name, list(tool.input_schema["properties"]), "-", tool.description)

        async def progress(done: float, total: float | None, message: str | None) -> None:
            print("step", int(done), message)

        result = await client.call_tool("long_run", {"steps": 3, "seconds": 0.2}, progress_callback=progress)
        print(result.is_error, result.structured_content)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"))
