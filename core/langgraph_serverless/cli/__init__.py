"""The ``langgraph-serverless`` command. ``main.py`` names the commands; each imports what it needs only when it runs."""
