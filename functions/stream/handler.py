"""Runs that the client waits for: streams, waits and joins, read from the event log. Never runs a graph."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("stream")
