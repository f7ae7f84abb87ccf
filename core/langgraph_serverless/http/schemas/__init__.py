"""Pydantic models equal to the wire, one module per resource."""
