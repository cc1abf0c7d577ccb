"""OpenAI's embeddings: POST /v1/embeddings.

The vectors are sums of fixed random directions, one for each word and each three letters: texts with the same words
are near each other. They show how a cache works; they say nothing about how good a real embedder is.
Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import re
import uuid
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .answers import Replies
from .catalog import Model, find
from .count import embedding_tokens
from .openai_rules import EMBEDDING_PARAMETERS, check_body
from .prompt_cache import Account
from .wire import JSON, WireError, Work, check_range, fits_type, is_array, sequence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPOTS = 8  # of a direction: enough for two features to be nearly at right angles


def embed(body: JSON, answers: Replies, account: Account) -> Work:
    """The work that an embedding request asks for.

    Raises:
        WireError: OpenAI would refuse it.
    """
    del answers, account
    check_body(body, EMBEDDING_PARAMETERS, required=("model", "input"))
    model = find("openai", body["model"], embedding=True)
    check_range(body, "dimensions", 1, model.dimensions)
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise WireError(400, f"Invalid value: {encoding!r}.", code="invalid_value", param="encoding_format")
    texts = _texts(body["input"])
    counts = [count for _, count in texts]
    if max(counts) > model.context:
        message = (
            f"This model's maximum context length is {model.context} tokens, "
            f"however you requested {max(counts)} tokens."
        )
        raise WireError(400, message, code="context_length_exceeded", param="input")
    data: list[JSON] = []
    for index, (text, _) in enumerate(texts):
        found = vector(text, model, body.get("dimensions") or model.dimensions)
        shown: Any = (
            base64.b64encode(found.astype("<f4").tobytes()).decode() if encoding == "base64" else found.tolist()
        )
        data.append({"object": "embedding", "index": index, "embedding": shown})
    usage: JSON = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return Work(
        id=f"embd-{uuid.uuid4().hex}",
        endpoint="/v1/embeddings",
        model=body["model"],
        tier="standard",
        stream=False,
        user=body.get("user"),
        usage=usage,
        body={"object": "list", "data": data, "model": model.name, "usage": usage},
        events=lambda: iter(()),
        partial=lambda _: usage,
    )


def vector(text: str, model: Model, dimensions: int) -> NDArray[np.float32]:
    """The unit vector of a text, of that many dimensions."""
    import numpy as np

    total = np.zeros(model.dimensions, dtype=np.float32)
    words: list[str] = re.findall(r"\w+", text.casefold()) or [""]
    for word in words:
        for feature in (word, *(f"#{word[i : i + 3]}" for i in range(max(1, len(word) - 2)))):
            spots, signs = _direction(feature, model.dimensions)
            np.add.at(total, spots, signs)
    total = total[:dimensions]
    length = float(np.linalg.norm(total))
    if not length:
        total[0] = length = 1.0
    return total / np.float32(length)


@lru_cache(maxsize=20_000)
def _direction(feature: str, dimensions: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    import numpy as np

    dice = np.random.default_rng(zlib.crc32(feature.encode("utf-8", "surrogatepass")))
    spots = dice.integers(0, dimensions, _SPOTS)
    return spots, dice.choice(np.array([-1.0, 1.0], dtype=np.float32), _SPOTS)


def _texts(given: object) -> list[tuple[str, int]]:
    """The input as texts with their token counts: a string, strings, or token ids of either."""
    tokens = embedding_tokens()
    if isinstance(given, str):
        return [(given, tokens(given))]
    items = sequence(given)
    if len(items) > 2048:
        raise WireError(400, "'input' array must have at most 2048 items.", param="input")
    if all(fits_type(item, "integer") for item in items):
        return [(_decode(items), len(items))]
    texts: list[tuple[str, int]] = []
    for number, item in enumerate(items):
        if isinstance(item, str) and item:
            texts.append((item, tokens(item)))
        elif is_array(item) and item and all(fits_type(token, "integer") for token in item):
            texts.append((_decode(item), len(item)))
        else:
            raise WireError(400, f"'$.input[{number}]' is invalid.", code="invalid_type", param="input")
    return texts


def _decode(ids: list[int]) -> str:
    try:
        return embedding_tokens().decode(ids)
    except (KeyError, OverflowError) as error:
        raise WireError(400, "'input' holds unknown token ids.", param="input") from error
