"""The project's own application: a page that shows what the start-up has left, one that comes in parts, one that asks the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from langgraph_sdk import get_client
from starlette.responses import StreamingResponse


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello from the start-up"}


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def mark(request: Request, call_next):  # type: ignore[no-untyped-def]
    response = await call_next(request)
    response.headers["x-from-the-project"] = "yes"
    return response


@app.get("/pages/{name}")
async def page(request: Request, name: str) -> dict[str, str]:
    return {"page": name, "greeting": request.state.greeting}


@app.get("/parts")
async def parts() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0.3)

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/counted")
async def counted() -> dict[str, int]:
    return {"assistants": await get_client().assistants.count()}
