"""Assistants: create, search, versions; graphs and schemas come from the manifest, or from the state function if
they depend on an assistant's config. Never imports langgraph."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("assistants")
