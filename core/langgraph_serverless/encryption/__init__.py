"""Encryption at rest: the project's ``langgraph_sdk.Encryption`` handlers, and the key of ``LANGGRAPH_AES_KEY``."""
