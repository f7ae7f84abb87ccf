"""The user's code: read the project, load its graphs, describe them, run them. The only package that imports langgraph."""
