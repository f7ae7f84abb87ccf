"""Agent cards: what an assistant is to other agents, and where they reach it. Pure.

As the official server has them, and with what this one can do beyond it: push notifications, the extended card (which is the same:
nobody sees a card who may not see the assistant), the interface of 0.3, and how to authenticate if the project says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_serverless import __version__
from langgraph_serverless.domain.assistants import Assistant

HISTORY_SCOPE = "LangGraph-A2A-History-Scope"
MODES = ("application/json", "text/plain")


def input_fields(schema: Any) -> list[str] | None:
    """The fields that a graph takes; None if nobody knows."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return None
    return list(schema["properties"])


def agent_card(
    assistant: Assistant,
    *,
    url: str,
    schema: Any,
    push: bool,
    authentication: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The card of an assistant.

    Args:
        url: of its endpoint, as the client reaches it.
        schema: of its graph's input.
        push: whether this deployment sends notifications.
        authentication: the project's ``auth.openapi``.
    """
    name = assistant.name
    description = assistant.description or f"{name} assistant"
    fields = input_fields(schema) or []
    required = schema.get("required") if isinstance(schema, dict) else None
    card: dict[str, Any] = {
        "name": name,
        "description": description,
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version} for version in ("1.0", "0.3")
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": push,
            "stateTransitionHistory": False,
            "extendedAgentCard": True,
            "extensions": [
                {
                    "uri": "https://langchain.com/a2a/extensions/history-scope/v1",
                    "description": "Choose task-only or full-context response history",
                    "required": False,
                    "params": {
                        "header": HISTORY_SCOPE,
                        "values": ["context", "task"],
                        "default": "context",
                        "methods": ["SendMessage", "GetTask", "ListTasks"],
                    },
                }
            ],
        },
        "defaultInputModes": list(MODES),
        "defaultOutputModes": list(MODES),
        "skills": [
            {
                "id": f"{assistant.assistant_id}-main",
                "name": f"{name} Capabilities",
                "description": description,
                "tags": ["assistant", "langgraph"],
                "examples": [],
                "inputModes": list(MODES),
                "outputModes": list(MODES),
                "metadata": {
                    "inputSchema": {
                        "required": required if isinstance(required, list) else [],
                        "properties": fields,
                        "supportsA2A": "messages" in fields,
                    }
                },
            }
        ],
        "supportsAuthenticatedExtendedCard": True,
        "version": __version__,
    }
    if authentication is not None and authentication.get("securitySchemes"):
        card["securitySchemes"] = authentication["securitySchemes"]
        if authentication.get("security"):
            card["security"] = authentication["security"]
    return card
