"""A chat agent: a model that may call tools, in a loop, with a memory that outlives the conversation.

Messages are the state of the thread, kept in its checkpoints. What the agent learns about a person goes to the store,
under a namespace of that person, and is there in every later thread.
"""

import os
from typing import Annotated

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, SystemMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, ToolRuntime, tools_condition
from langgraph.runtime import Runtime
from scripted_model import ScriptedChatModel
from typing_extensions import TypedDict


class State(TypedDict):
    """The conversation. `add_messages` appends new messages and replaces those with a known id."""

    messages: Annotated[list[AnyMessage], add_messages]


class Context(TypedDict, total=False):
    """What a client may say about a run: context={"user_id": "ada"}."""

    user_id: str


def memories(runtime: Runtime[Context] | ToolRuntime[Context, State]) -> tuple[str, str]:
    """The store's namespace for this user."""
    return ("memories", (runtime.context or {}).get("user_id", "anonymous"))


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    # No network, so that the example always answers; the same city always has the same weather.
    kinds = ["sunny", "cloudy", "rainy", "windy"]
    return f"It is {kinds[len(city) % 4]} and {10 + sum(map(ord, city)) % 20} degrees in {city}."


@tool
def add(a: float, b: float) -> str:
    """The sum of two numbers."""
    return f"{a:g} + {b:g} = {a + b:g}."


@tool
async def remember(key: str, value: str, runtime: ToolRuntime[Context, State]) -> str:
    """Keep a fact about the user for later conversations, for example key "name", value "Ada"."""
    if runtime.store is None:
        return "I have no store to keep that in."
    await runtime.store.aput(memories(runtime), key, {"value": value})
    return f"I will remember that your {key} is {value}."


TOOLS = [get_weather, add, remember]


def chat_model() -> BaseChatModel:
    """The model in CHAT_MODEL, such as "openai:gpt-5"; a scripted one, which needs no key, if that is not set."""
    name = os.environ.get("CHAT_MODEL")
    if not name:
        return ScriptedChatModel()
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415  needed by those who set CHAT_MODEL only
    except ImportError as error:
        raise ImportError(
            f"CHAT_MODEL={name} needs 'pip install langchain' and the provider's package, such as langchain-openai"
        ) from error
    return init_chat_model(name)


model = chat_model().bind_tools(TOOLS)


async def agent(state: State, runtime: Runtime[Context]) -> dict[str, list[AnyMessage]]:
    known = await runtime.store.asearch(memories(runtime)) if runtime.store else []
    facts = "; ".join(f"{item.key}: {item.value['value']}" for item in known) or "nothing yet"
    prompt = SystemMessage(f"You are a friendly assistant. You know about the user: {facts}.")
    # Tokens reach the client as they come (stream_mode="messages-tuple"); nothing to be done for that here.
    return {"messages": [await model.ainvoke([prompt, *state["messages"]])]}


builder = StateGraph(State, context_schema=Context)
builder.add_node(agent)
builder.add_node("tools", ToolNode(TOOLS))
builder.add_edge(START, "agent")
# To the tools if the model asked for one, else to the end; and from the tools back to the model.
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")

graph = builder.compile()
