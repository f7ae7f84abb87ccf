"""Health, version, metrics and API documents, and the 404 of every path that no other function has."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("system")
