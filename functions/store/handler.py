"""The store: items, namespaces and search."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("store")
