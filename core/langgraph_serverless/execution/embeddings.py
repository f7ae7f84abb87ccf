"""The project's embedding: what ``store.index.embed`` of langgraph.json names.

``check_embedding`` promises that it can be loaded, or a one-sentence ``ProjectError``; it makes no client, as that may take
a key which only the deployment has. ``ProjectEmbedder`` makes it at once, and is what the store embeds with: it gives as many
vectors as texts, each of the index's length and of finite numbers, within a bounded time, or raises ``EmbeddingError``.

Relies on ``modules.py`` for imports and on LangChain's ``init_embeddings`` for providers; langchain is the project's own
dependency. Which texts are embedded of a value is LangGraph's rule (``get_text_at_path``). Never opens a database.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import math
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings, get_text_at_path, tokenize_path

from langgraph_serverless.domain.store import StoreIndex
from langgraph_serverless.errors import EmbeddingError, InvalidInputError, ProjectError
from langgraph_serverless.execution.modules import load_object, prepare_imports
from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.targets import is_path

logger = logging.getLogger(__name__)

#: Seconds for one call of the embedding. API Gateway cuts a request off after 29.
TIMEOUT = 20.0
#: What one item may have embedded.
MOST_TEXTS, MOST_CHARACTERS = 1000, 10_000_000
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class ProjectEmbedder:
    """Embeds the texts of items and queries. Its clients belong to the event loop that first uses them."""

    def __init__(self, index: StoreIndex, model: Embeddings, *, timeout: float = TIMEOUT) -> None:
        self.index = index
        #: as LangGraph's own store wants it
        self.model = model
        self._timeout = timeout
        self._fields = _paths(index.fields)

    @classmethod
    def of(cls, project: ProjectConfig) -> ProjectEmbedder | None:
        """The embedder of a project whose imports are prepared; None if it has no index.

        Raises:
            ProjectError: if it cannot be made.
        """
        index = project.store_settings.index
        if index is None:
            return None
        key = _key(project)
        loaded = _load(project, index.embed, key)
        if loaded is not None:
            return cls(index, loaded)
        try:
            return cls(index, ensure_embeddings(index.embed))
        # whatever a provider's package raises: it is missing, too old, or wants a key
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            raise ProjectError(
                f"{key}: '{index.embed}' cannot be opened: {type(error).__name__}: {reason.rstrip('.')}."
            ) from error

    def texts(self, value: Mapping[str, Any], paths: Sequence[str] | None) -> list[tuple[str, str]]:
        """What is embedded of a value, each text with the name under which its vector is kept.

        Raises:
            InvalidInputError: if that is too much.
        """
        found: dict[str, str] = {}
        size = 0
        for path, tokens in self._fields if paths is None else _paths(paths):
            texts = get_text_at_path(value, tokens)
            found |= {f"{path}.{n}" if len(texts) > 1 else path: text for n, text in enumerate(texts)}
            size += sum(map(len, texts))
            if len(found) > MOST_TEXTS or size > MOST_CHARACTERS:
                # paths may name the same large value over and over
                raise InvalidInputError(
                    f"'index' leads to more than {MOST_TEXTS} texts or {MOST_CHARACTERS} characters to embed"
                )
        return list(found.items())

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text.

        Raises:
            EmbeddingError: if the embedding fails, takes too long, or gives something else.
        """
        if not texts:
            return []
        return self._checked(await self._ask(self.model.aembed_documents(list(texts))), len(texts))

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a query.

        Raises:
            EmbeddingError: as for ``embed``.
        """
        return self._checked([await self._ask(self.model.aembed_query(text))], 1)[0]

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError as error:
            raise self._error(f"has not answered within {self._timeout:g} seconds") from error
        # the user's code and the provider's client; the log gets what they say, which may not be for clients
        except Exception as error:
            logger.exception("the embedding %s failed", self.index.embed, extra={"action": "embedding_failed"})
            raise self._error(f"failed: {type(error).__name__}") from error

    def _checked(self, vectors: Any, count: int) -> list[list[float]]:
        try:
            found = [[float(number) for number in vector] for vector in vectors]
        except (TypeError, ValueError) as error:
            raise self._error("gave something else than lists of numbers") from error
        if len(found) != count:
            raise self._error(f"gave {len(found)} vectors for {count} texts")
        for vector in found:
            if len(vector) != self.index.dims:
                raise self._error(f"gave a vector of {len(vector)} numbers, and store.index.dims is {self.index.dims}")
            # pgvector keeps single precision, where larger numbers are infinite
            if not all(math.isfinite(number) and abs(number) < 3.4e38 for number in vector):
                raise self._error("gave a vector with numbers that are not finite")
        return found

    def _error(self, what: str) -> EmbeddingError:
        return EmbeddingError(f"The embedding '{self.index.embed}' of the store's index {what}")


def check_embedding(project: ProjectConfig) -> None:
    """Import the project's embedding, or see that there is a langchain to open it.

    Raises:
        ProjectError: with the sentence to show.
    """
    index = project.store_settings.index
    if index is None:
        return
    key = _key(project)
    if _load(project, index.embed, key) is None and importlib.util.find_spec("langchain") is None:
        raise ProjectError(
            f"{key}: '{index.embed}' is opened by langchain, which is not installed; add 'langchain' and the provider's"
            " package to the project's dependencies, or name a function as './file.py:name'."
        )


def _key(project: ProjectConfig) -> str:
    return f"{project.config_path}: store.index.embed"


def _load(project: ProjectConfig, embed: str, key: str) -> Embeddings | None:
    """The object of the project that ``embed`` names; None if it names a provider and a model."""
    prepare_imports(project)
    if not _names_an_object(embed):
        return None
    loaded = load_object(project, embed, key=key)
    if isinstance(loaded, Embeddings) or (callable(loaded) and not inspect.isclass(loaded)):
        return ensure_embeddings(loaded)
    raise ProjectError(
        f"{key}: '{embed}' is of type {type(loaded).__name__}; it must be a function from a list of texts to a list of"
        " vectors, or an instance of LangChain's Embeddings."
    )


def _names_an_object(embed: str) -> bool:
    """``openai:text-embedding-3-small`` and ``my_module:embed`` have one form; the second one can be imported."""
    location, _, attribute = embed.rpartition(":")
    if is_path(location):
        return True
    if not attribute.isidentifier() or not _MODULE.fullmatch(location):
        return False
    if "." in location:
        return True
    if importlib.util.find_spec(location) is None:
        return False
    try:
        # a provider may share its name with its client's package, which then does not have the model as an attribute
        return hasattr(importlib.import_module(location), attribute)
    except Exception:  # it is loaded once more as the project's, which says what is wrong with it
        return True


def _paths(paths: Sequence[str]) -> list[tuple[str, str | list[str]]]:
    return [(path, path if path == "$" else tokenize_path(path)) for path in dict.fromkeys(paths)]
