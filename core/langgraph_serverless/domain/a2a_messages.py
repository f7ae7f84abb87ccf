"""Messages of the Agent-to-Agent protocol: parts of the wire into a graph's input, and LangChain's content into parts.

Text becomes the message's content, files become content blocks as LangChain has them for all models, data are fields of the input at
its top level. Both dialects are read the same way, whichever a request speaks: 0.3 says ``file: {uri | bytes, mimeType, name}``, 1.0
``url | raw, mediaType, filename``. Texts of errors are the official server's where it has one. Pure.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from langgraph_serverless.errors import RpcError

_PARAMS, _CONTENT = -32602, -32005
_UNSUPPORTED = "Unsupported part type. A2A agents support 'text', 'data', and 'file' parts only."
#: LangChain has blocks for these; every other kind is a file.
_MEDIA = ("image", "audio", "video")


class Dialect(StrEnum):
    """How a client speaks, told by the names of its methods."""

    V03 = "0.3"
    V1 = "1.0"

    def role(self, role: str) -> str:
        return role if self is Dialect.V03 else f"ROLE_{role.upper()}"

    def state(self, state: str) -> str:
        return str(state) if self is Dialect.V03 else f"TASK_STATE_{state.upper().replace('-', '_')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A client's message."""

    message_id: str
    context_id: str | None
    task_id: str | None
    #: As they were sent.
    parts: Sequence[Mapping[str, Any]]
    texts: Sequence[str]
    #: LangChain's content blocks.
    files: Sequence[Mapping[str, Any]]
    #: All data parts together; None without any.
    data: Mapping[str, Any] | None

    @property
    def speaks(self) -> bool:
        """It has what only a conversation can take."""
        return bool(self.texts or self.files)

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """Of the human message: text if there is nothing else."""
        if not self.files:
            return "\n".join(self.texts)
        return [*({"type": "text", "text": text} for text in self.texts), *(dict(block) for block in self.files)]

    @property
    def input(self) -> dict[str, Any]:
        """For a run that begins with this."""
        fields = dict(self.data or {})
        if self.speaks:
            fields["messages"] = [{"role": "user", "content": self.content, "id": self.message_id}]
        return fields

    @property
    def answer(self) -> Any:
        """For a run that waits for this: the text, the data, or both."""
        if self.files or self.data is None:
            return self.content
        return {**self.data, "text": self.content} if self.texts else dict(self.data)


def read_message(params: Mapping[str, Any]) -> Incoming:
    """The message in the parameters of a request.

    Raises:
        RpcError: with the reason.
    """
    message = params.get("message")
    if not isinstance(message, dict) or not message:
        raise RpcError(_PARAMS, "Missing or invalid 'message' in params")
    message_id = message.get("messageId")
    if not isinstance(message_id, str) or not message_id:
        raise RpcError(_PARAMS, "Missing required 'messageId' in message")
    if message.get("role", "user") not in ("user", "ROLE_USER"):
        raise RpcError(_PARAMS, "Message role must be 'user': the agent speaks for itself")
    parts = message.get("parts")
    if not isinstance(parts, list) or not parts:
        raise RpcError(_PARAMS, "Message must contain at least one part")
    texts: list[str] = []
    files: list[dict[str, Any]] = []
    data: dict[str, Any] | None = None
    for part in parts:
        match _kind(part):
            case "text":
                texts.append(part["text"])
            case "data":
                if not isinstance(part["data"], dict):
                    raise RpcError(_CONTENT, "DataPart must contain a JSON object in the 'data' field")
                data = {**(data or {}), **part["data"]}
            case _:
                files.append(_block(part))
    return Incoming(
        message_id=message_id,
        context_id=_text(message, "contextId"),
        task_id=_text(message, "taskId"),
        parts=parts,
        texts=texts,
        files=files,
        data=data,
    )


def _text(message: Mapping[str, Any], name: str) -> str | None:
    value = message.get(name)
    if value is not None and not isinstance(value, str):
        raise RpcError(_PARAMS, f"{name} must be a string")
    return value or None


def _kind(part: Any) -> str:
    """``text``, ``data`` or ``file``."""
    found = [name for name in ("text", "file", "data") if isinstance(part, dict) and part.get(name) is not None]
    if isinstance(part, dict) and any(part.get(name) for name in ("url", "raw")) and "file" not in found:
        found.append("file")
    if len(found) > 1:
        raise RpcError(
            _CONTENT, f"Each message part must contain exactly one of 'text', 'file', or 'data'. Got multiple: {found}."
        )
    if (
        not found
        or part.get("kind", found[0]) != found[0]
        or (found[0] == "text" and not isinstance(part["text"], str))
    ):
        raise RpcError(_CONTENT, _UNSUPPORTED)
    return found[0]


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    """A file as LangChain has it."""
    found = part.get("file")
    file: Mapping[str, Any] = found if isinstance(found, dict) else {} if "file" in part else part
    uri, data = file.get("uri") or file.get("url"), file.get("bytes") or file.get("raw")
    media_type, name = file.get("mimeType") or file.get("mediaType"), file.get("name") or file.get("filename")
    if any(value is not None and not isinstance(value, str) for value in (uri, data, media_type, name)):
        raise RpcError(_CONTENT, "The fields of a file part must be strings")
    if bool(uri) == bool(data):
        raise RpcError(_CONTENT, "FilePart 'file' must contain either 'bytes' or 'uri'.")
    family = (media_type or "").partition("/")[0]
    block: dict[str, Any] = {"type": family if family in _MEDIA else "file"}
    if uri:
        block["url"] = uri
    else:
        try:
            b64decode(data or "", validate=True)
        except (binascii.Error, ValueError):
            raise RpcError(_CONTENT, "The 'bytes' of a file part must be valid base64 data") from None
        block["base64"] = data
    if media_type:
        block["mime_type"] = media_type
    if name:
        block["extras"] = {"filename": name}
    return block


def spoken_text(content: Any) -> str:
    """The text in LangChain's content."""
    if isinstance(content, str):
        return content
    return "".join(_block_text(block) for block in content) if isinstance(content, list) else ""


def _block_text(block: Any) -> str:
    if isinstance(block, dict):
        text = block.get("text") if block.get("type", "text") == "text" else None
        return text if isinstance(text, str) else ""
    return block if isinstance(block, str) else ""


def parts_of(content: Any, dialect: Dialect) -> list[dict[str, Any]]:
    """LangChain's content as parts: texts that follow each other are one; what is neither text nor file is left out."""
    parts: list[dict[str, Any]] = []
    for block in content if isinstance(content, list) else [content]:
        if text := _block_text(block):
            if parts and parts[-1]["kind"] == "text":
                parts[-1]["text"] += text
            else:
                parts.append({"kind": "text", "text": text})
        elif isinstance(block, dict) and block.get("type") in (*_MEDIA, "file", "image_url"):
            parts += _file_part(block, dialect)
    return parts


def _file_part(block: Mapping[str, Any], dialect: Dialect) -> list[dict[str, Any]]:
    uri, data = block.get("url"), block.get("base64") or block.get("data")
    if block["type"] == "image_url":  # as OpenAI's models have it
        found = block.get("image_url")
        uri = found.get("url") if isinstance(found, dict) else found
    extras = block.get("extras")
    name = extras.get("filename") if isinstance(extras, dict) else None
    if not isinstance(uri or data, str):
        return []
    if dialect is Dialect.V03:
        file = {"uri": uri} if uri else {"bytes": data}
        file |= {"mimeType": block["mime_type"]} if block.get("mime_type") else {}
        return [{"kind": "file", "file": file | ({"name": name} if name else {})}]
    part: dict[str, Any] = {"kind": "file", **({"url": uri} if uri else {"raw": data})}
    part |= {"mediaType": block["mime_type"]} if block.get("mime_type") else {}
    return [part | ({"filename": name} if name else {})]
