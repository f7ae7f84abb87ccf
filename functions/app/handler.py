"""The project's own application (``http.app``), for every path that no other function has. Deployed for projects that have one.

Its middleware is around the routes of every function; its routes are here, beside those of the system function, which has them otherwise.
"""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("app", resource="system")
