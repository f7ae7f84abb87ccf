"""Assistants as agents of the Agent-to-Agent protocol, and their cards. Makes runs and follows them; never runs a graph."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("a2a")
