"""Every error that this package raises on purpose.

The tree::

    ServerError
    ├── SettingsError            the environment is wrong (command line: one sentence, exit code 1)
    ├── ProjectError             the user's langgraph.json or graphs are wrong (the same)
    ├── StartupError             a server cannot be reached or started (the same)
    ├── DeploymentError          the account, the stack or the tools for it say no (the same)
    ├── InvalidInputError        422, names the field
    │   ├── NamespaceLabelError  422, a label of a store namespace (the wire wants it as plain text)
    │   └── BadRequestError      400, the request cannot be carried out as it is
    │       ├── CommandError     a command of the thread protocol; its answer has the error's name, and HTTP says 200
    │       └── RpcError         a call by JSON-RPC; its answer has the number, and HTTP says 200
    ├── AccessError              401, 403 or what the project's auth handler says, with its headers
    ├── HandlerResultError       500, the project's auth handler has returned what means nothing
    ├── NotFoundError            404
    │   └── GraphNotFoundError
    ├── ConflictError            409
    ├── GoneError                410
    ├── TooLargeError            413
    ├── BadGatewayError          502, a function of ours that was asked has failed
    │   └── EmbeddingError       502, the project's embedding has failed
    ├── EncryptionError          500, data could not be encrypted or decrypted; holds nothing of it, and nothing of a key
    │   └── ReservedKeyError     422, a document has a key that encryption keeps for itself
    ├── QuotaError               429, with Retry-After
    ├── UnavailableError         503, with Retry-After
    ├── UnreadableValueError     500, the database holds what is never read
    ├── LeaseLostError           a worker no longer owns its run; never reaches a client
    └── DeliveryError            a webhook could not be delivered; the same

``code`` is stable and meant for programs, ``status`` is the HTTP status, ``str(error)`` is the sentence that a person
reads. The HTTP mapping is by class in ``http/errors.py``; no other module knows status codes in prose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar


class ServerError(Exception):
    """Catch this for everything that this package raises on purpose."""

    code: ClassVar[str] = "internal_error"
    status: int = 500

    @property
    def detail(self) -> str:
        """The sentence for the client."""
        return str(self)


class SettingsError(ServerError):
    """The environment has missing or wrong values; all of them are reported together."""

    code = "invalid_settings"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ProjectError(ServerError):
    """The user's project cannot be loaded. The message is one sentence that says what to mend."""

    code = "invalid_project"


class PlanError(ServerError):
    """A plan was asked of numbers that cannot be."""

    code = "invalid_plan"


class StartupError(ServerError):
    """A server that is needed cannot be started or reached."""

    code = "startup_failed"


class DeploymentError(ServerError):
    """A deployment cannot be made. The message says what AWS or the tool said, and what to do."""

    code = "deployment_failed"


class InvalidInputError(ServerError):
    """The request is malformed. The message names the field."""

    code = "invalid_input"
    status = 422


class BadRequestError(InvalidInputError):
    """The request is well formed but contradicts itself or the state it applies to."""

    code = "bad_request"
    status = 400


class CommandError(BadRequestError):
    """A command of the thread protocol cannot be carried out; ``error`` is the protocol's name for why."""

    code = "command_refused"

    def __init__(self, error: str, message: str) -> None:
        self.error = error
        super().__init__(message)


class RpcError(BadRequestError):
    """A call by JSON-RPC cannot be carried out; ``number`` is the protocol's code for why."""

    code = "call_refused"

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        super().__init__(message)


class GraphRefusedError(BadRequestError):
    """The graph objects to a node or to values; the message is the graph's."""


class ProjectNeededError(InvalidInputError):
    """Only the user's code knows the answer, and this process does not have it; see ``http/forwarding.py``."""

    code = "project_needed"


class NamespaceLabelError(InvalidInputError):
    """A label of a store namespace is empty or holds a period."""

    def __init__(self, label: str) -> None:
        self.label = label
        super().__init__(f"Namespace label '{label}' must be a non-empty string without periods")


class AccessError(ServerError):
    """The caller is not authenticated or may not do this; status, text and headers are those of the project's handler."""

    code = "access_denied"
    status = 403

    def __init__(self, detail: str = "Forbidden", status: int = 403, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = dict(headers or {})
        super().__init__(detail)


class HandlerResultError(ServerError):
    """An authorisation handler has returned or left what means nothing; the text names types only."""

    code = "invalid_handler_result"


class NotFoundError(ServerError):
    """The named thing does not exist, or is hidden from this caller."""

    code = "not_found"
    status = 404


class GraphNotFoundError(NotFoundError):
    """No graph of this id is in ``langgraph.json``."""

    code = "graph_not_found"

    def __init__(self, graph_id: str, known: Iterable[str]) -> None:
        self.graph_id = graph_id
        super().__init__(f"Graph '{graph_id}' not found. Expected one of: {sorted(known)}")


class ConflictError(ServerError):
    """The request collides with what is already there."""

    code = "conflict"
    status = 409


class GoneError(ServerError):
    """What the request has led to before is not kept any longer."""

    code = "gone"
    status = 410


class TooLargeError(ServerError):
    """The request's body is larger than the server takes."""

    code = "too_large"
    status = 413


class BadGatewayError(ServerError):
    """Another function that has to carry the request out has failed, or has not answered in time."""

    code = "bad_gateway"
    status = 502


class EmbeddingError(BadGatewayError):
    """The project's embedding fails, takes too long, or gives what is no embedding. Nothing has been written."""

    code = "embedding_failed"


class EncryptionError(ServerError):
    """Data could not be encrypted or decrypted. The sentence has nothing of the data, and nothing that a handler has said."""

    code = "encryption_failed"


class ReservedKeyError(EncryptionError):
    """A document has a key by which encrypted values are known, and could not be told from one."""

    code = "reserved_key"
    status = 422


class UnavailableError(ServerError):
    """A database is out of reach or too busy. The client should try again after ``retry_after`` seconds."""

    code = "unavailable"
    status = 503
    retry_after: ClassVar[int] = 1


class QuotaError(ServerError):
    """The tenant has as much of something as it may have. There may be room after ``retry_after`` seconds."""

    code = "quota_exceeded"
    status = 429
    retry_after: ClassVar[int] = 5


class UnreadableValueError(ServerError):
    """A stored value is of a kind that is never read. Nothing of ours has written it."""

    code = "unreadable_value"


class LeaseLostError(ServerError):
    """This worker's lease on the run has ended; another owner's writes count from now on."""

    code = "lease_lost"


class DeliveryError(ServerError):
    """A webhook was not accepted by its receiver; ``final`` if the receiver wants no further try."""

    code = "delivery_failed"

    def __init__(self, reason: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(reason)
