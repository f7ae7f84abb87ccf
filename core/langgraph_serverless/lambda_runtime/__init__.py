"""A client of Lambda's Runtime API that streams: it takes the place of the managed one, which collects whole answers.

::

    API Gateway / function URL ──▶ GET next ──▶ events.py ──▶ ASGI application
                              ◀── POST response (chunked) ◀── exchange.py

Started by the wrapper script of the stream function (``AWS_LAMBDA_EXEC_WRAPPER``) as
``python -m langgraph_serverless.lambda_runtime``; see ``loop.py`` for a process's life, ``exchange.py`` for a request's.
Uses the standard library and Mangum's translation of events, and nothing else of this package: it serves any ASGI
application (docs/adr/0017-streaming-from-lambda.md).
"""
