"""Assistants as tools of the Model Context Protocol. A call makes a run and waits for it; never runs a graph."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("mcp")
