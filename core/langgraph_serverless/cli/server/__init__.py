"""Long-lived processes: the API behind uvicorn and the worker, for containers and machines of one's own.

The laptop's server is made of the same parts (``cli/laptop``); what it adds is databases, hot reload and a supervisor.
Nothing here starts a database.
"""
