"""The user's own embedder in the cache's terms: unit vectors within a second, or no vector."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any, Protocol, cast, runtime_checkable
from uuid import uuid4

import numpy as np

from llm_savings import tokens
from llm_savings.bounds import Size
from llm_savings.embedding import Embedder, bundled_embedder
from llm_savings.errors import CacheError, ConfigError
from llm_savings.ledger import Ledger, Sent
from llm_savings.meter import Answer, Meter
from llm_savings.semantic_cache.entries import Vector
from llm_savings.storage.forks import Guarded
from llm_savings.usage import Usage


@runtime_checkable
class _LangChainEmbeddings(Protocol):
    def embed_query(self, text: str) -> list[float]: ...
    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...


_Function = Callable[[list[str]], Any]
Embeddings = Embedder | _LangChainEmbeddings | _Function | tuple[str, _Function] | str
"""What a user may give: an embedder, LangChain's `Embeddings`, a function of texts, also with a name of its own, or a
LiteLLM model's name."""

_PARALLEL = 8


class Foreign(Guarded):
    """An embedder that may be slow, dead or elsewhere.

    Args:
        function: Gives one vector a text, of one length.
        name: Of the vector space.
        timeout: Seconds after which there is no vector.
        meter: Where its calls are recorded, as an overhead of the cache; None where somebody else does.
    """

    def __init__(
        self,
        function: Callable[[list[str]], Any],
        name: str,
        *,
        timeout: float = 1.0,
        meter: Callable[[list[str]], AbstractContextManager[None]] | None = None,
    ) -> None:
        self._name, self.timeout, self._meter = name, timeout, meter
        self._function = function
        self._length: int | None = None
        self._running = 0
        super().__init__()

    def after_fork(self, *, child: bool) -> None:
        """See `Forkable`. The threads that wait for an answer stay with the parent."""
        super().after_fork(child=child)
        if child:
            self._running = 0

    @property
    def name(self) -> str:
        """Of the vector space."""
        return self._name

    @property
    def dimensions(self) -> int:
        """Length of its vectors; asks for one where none is known.

        Raises:
            CacheError: As `embed`.
        """
        return self._length or len(self.embed(["dimensions"])[0])

    def embed(self, texts: Sequence[str]) -> Vector:
        """One unit vector a text, shape (n, dimensions).

        Raises:
            CacheError: It failed, took too long, or gave something that is no vector.
        """
        texts = list(texts)
        with self._lock:
            if self._running >= _PARALLEL:  # all of them hang: asking once more would only add to the queue
                raise CacheError("it does not answer")
            self._running += 1
        future: Future[Any] = Future()
        # A daemon, and none of a pool's, whose threads a program waits for when it ends.
        threading.Thread(target=self._call, args=(texts, future), name="llm-savings-embedder", daemon=True).start()
        try:
            found = np.asarray(future.result(self.timeout), dtype=np.float32)
        except Exception as error:
            if isinstance(error, TimeoutError):
                raise CacheError(f"it took more than {self.timeout} s") from error
            raise CacheError(f"it raised {type(error).__name__}") from error
        if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
            raise CacheError(
                f"it gave an array of shape {found.shape} for {len(texts)} texts; "
                "expected one vector of finite numbers a text"
            )
        self._length = found.shape[1]
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, length, out=np.zeros_like(found), where=length > 0)

    def _call(self, texts: list[str], future: Future[Any]) -> None:
        try:
            with self._meter(texts) if self._meter is not None else nullcontext():
                found = self._function(texts)
            future.set_result(found)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            future.set_exception(error)
        finally:
            with self._lock:
                self._running -= 1


def embedder(
    given: Embeddings | None,
    *,
    timeout: float = 1.0,
    ledger: Ledger | str | Path | None = None,
    kept: bool = False,
) -> Embedder:
    """The embedder that the user means; the bundled one by default.

    Args:
        given: What the user gave.
        timeout: Seconds that its calls may take.
        ledger: Where they are recorded. Calls by way of LiteLLM are recorded by its `CostLogger` instead.
        kept: Whether its vectors outlive it, so that another one's must not be taken for them.

    Raises:
        ConfigError: It is nothing that embeds, or its vectors are kept and another one could have its name.
    """
    if given is None:
        return bundled_embedder()
    if isinstance(given, str):
        return Foreign(_litellm(given), f"litellm:{given}", timeout=timeout)
    if isinstance(given, _LangChainEmbeddings):
        return Foreign(given.embed_documents, _named(given), timeout=timeout, meter=_metered(given, ledger))
    if isinstance(given, Embedder):
        return given
    pair = cast("tuple[Any, ...]", given) if isinstance(given, tuple) else ("", given)
    own, function = pair if len(pair) == 2 else (None, None)
    if callable(function) and isinstance(own, str):
        if kept and not own and _is_nameless(function):
            raise ConfigError(
                f"embeddings={given!r}: another one could have its name, and the store would take their vectors for "
                'one another; say which model it is, such as embeddings=("bge-m3", function)'
            )
        name = f"named:{own}" if own else _named(function)
        return Foreign(function, name, timeout=timeout, meter=_metered(function, ledger))
    raise ConfigError(
        f"embeddings={given!r} is no embedder; pass LangChain Embeddings, a function from texts to vectors, "
        'or the name of a LiteLLM model such as "openai/text-embedding-3-small"'
    )


def _model(given: Any) -> str:
    names = (getattr(given, key, None) for key in ("model", "model_name", "model_id", "deployment"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _metered(
    given: Any, ledger: Ledger | str | Path | None
) -> Callable[[list[str]], AbstractContextManager[None]] | None:
    """Records calls of an embedder: tokens as counted here, since nobody else tells."""
    if ledger is None:
        return None
    meter, model = Meter(ledger, tags={"overhead": "semantic_cache"}), _model(given) or "embedder"

    @contextmanager
    def metered(texts: list[str]) -> Generator[None]:
        size = Size(sum(tokens.upper_bound(text) for text in texts), 0)
        sent = Sent(call_id=uuid4().hex, host="sdk", requested_model=model, tags=meter.tags)
        live = meter.begin(replace(sent, bound=meter.bound(model, size)))
        try:
            yield
        except Exception as error:
            meter.failed(live, error)
            raise
        used = Usage(input=sum(tokens.count(text, model) for text in texts))
        meter.answered(live, Answer(model=model, usage=used, estimated=True))

    return metered


def _named(given: Any) -> str:
    """A name that another embedder is unlikely to have: its kind, and the settings that say which model it is."""
    if isinstance(given, MethodType):
        return f"{_named(given.__self__)}.{given.__name__}"
    kind: Any = given if hasattr(given, "__qualname__") else type(cast("object", given))
    settings = {
        key: value
        for key in ("model", "model_name", "model_id", "deployment", "dimensions", "task_type", "size")
        if isinstance(value := getattr(given, key, None), str | int)
    }
    told = blake2b(repr(sorted(settings.items())).encode(), digest_size=4).hexdigest()
    return f"{kind.__module__}.{kind.__qualname__}:{_model(given)}:{told}"


def _is_nameless(given: Callable[..., Any]) -> bool:
    """Whether nothing tells it from another one: a lambda, a function within one, a method of who knows what."""
    if isinstance(given, MethodType):
        return not _model(given.__self__)
    return isinstance(given, partial) or "<" in getattr(given, "__qualname__", "")


def _litellm(model: str) -> Callable[[list[str]], Any]:
    def embed(texts: list[str]) -> Any:
        litellm = import_module("litellm")
        options: dict[str, Any] = {"dimensions": 256} if "text-embedding-3" in model else {}
        options["metadata"] = {"tags": ["overhead:semantic_cache"]}  # as `CostLogger` reads labels
        # Not through `litellm.cache`, which may be the cache that asks.
        answer = litellm.embedding(
            model=model, input=texts, caching=False, cache={"no-cache": True, "no-store": True}, **options
        )
        return [row["embedding"] for row in sorted(answer.data, key=lambda row: row["index"])]

    return embed
