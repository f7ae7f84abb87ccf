"""Health, version, metrics, and the page over ``/openapi.json``, which is FastAPI's own."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from langgraph_serverless.http.deps import Container
from langgraph_serverless.http.docs_page import docs_page
from langgraph_serverless.http.params import read_flag
from langgraph_serverless.http.responses import json_response, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import system as wire

router = APIRouter(route_class=Route, tags=["System"])


@router.get("/ok", responses=returns(wire.Health))
@router.get("/", responses=returns(wire.Health), include_in_schema=False)
async def get_health(container: Container, check_db: str = "false") -> Response:
    """Whether the server answers; with `check_db`, whether Postgres and Redis do too, and which of them is down."""
    if "meta" in container.catalog.manifest.http.disabled:
        return json_response({"ok": True})
    if not read_flag(check_db):
        return json_response({"ok": True, "services": {}})
    return wire.health_response(await container.system.health())


@router.get("/info", responses=returns(wire.Info))
async def get_info(container: Container) -> Response:
    """Versions and features."""
    return json_response(container.system.info)


@router.get("/metrics", responses=returns(wire.Metrics))
async def get_metrics(request: Request, container: Container, format: str = "prometheus") -> Response:
    """Queue, leases, webhooks, crons, and the requests of this process, for Prometheus or as JSON."""
    numbers = await container.system.numbers()
    counter = request.app.state.counter
    if format == "json":
        return json_response(wire.metrics_document(numbers, counter.requests))
    # of whatever else this process is
    others = "".join(tell() for tell in request.app.state.metrics)
    text = wire.metrics_text(numbers, counter.requests, counter.seconds) + others
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


@router.get("/docs", include_in_schema=False)
async def get_docs() -> Response:
    """The API's description, to read and to try."""
    return docs_page()
