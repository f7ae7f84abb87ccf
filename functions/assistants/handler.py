"""Assistants: create, search, versions; graphs and schemas come from the manifest. Never imports langgraph."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("assistants")
