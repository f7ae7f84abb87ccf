"""Runs in the background: create, list, cancel, delete. Rings the bell, and wakes a worker if none is free."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("runs")
