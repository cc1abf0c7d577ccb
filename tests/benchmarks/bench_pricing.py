"""Time of pricing one call, beside LiteLLM's completion_cost on the same call; run it as a script."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

from llm_savings import PriceBook, Usage

ROUNDS = 5_000


def p50_us(call: Callable[[], object]) -> float:
    """The median time of a call in microseconds."""
    for _ in range(100):
        call()
    times: list[int] = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def main() -> None:
    """Print the figures."""
    code = "import time; t = time.perf_counter(); import llm_savings.pricing; print((time.perf_counter() - t) * 1000)"
    imports = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    start = time.perf_counter()
    book = PriceBook()
    book.price(Usage(input=1), "gpt-4o")
    first_ms = (time.perf_counter() - start) * 1000
    usage = Usage(input=86, cache_read=1920, output=300)
    unknown = "no-such-model"

    def refused() -> None:
        try:
            book.price(usage, unknown)
        except LookupError:
            return

    rows = {
        "price, a model seen before": p50_us(lambda: book.price(usage, "gpt-4o", provider="openai")),
        "price, tiered": p50_us(lambda: book.price(usage, "gpt-5.4", provider="openai")),
        "price, by time of day": p50_us(lambda: book.price(usage, "deepseek/deepseek-v4-flash")),
        "quote": p50_us(lambda: book.quote(usage, "gpt-4o", provider="openai")),
        "an unknown model refused": p50_us(refused),
    }

    import litellm  # after our own figures: it takes seconds
    from litellm.types.utils import ModelResponse, PromptTokensDetailsWrapper
    from litellm.types.utils import Usage as TheirUsage

    theirs = TheirUsage(
        prompt_tokens=2006,
        completion_tokens=300,
        total_tokens=2306,
        prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=1920),
    )
    response = ModelResponse(model="gpt-4o", usage=theirs)
    cost = litellm.completion_cost(response, model="gpt-4o", custom_llm_provider="openai")
    assert abs(cost - float(book.price(usage, "gpt-4o"))) < 1e-12
    rows["litellm.completion_cost"] = p50_us(
        lambda: litellm.completion_cost(response, model="gpt-4o", custom_llm_provider="openai")
    )

    print(f"import llm_savings.pricing  {statistics.median(imports):8.1f} ms")
    print(f"first price (reads the map) {first_ms:8.1f} ms")
    for name, microseconds in rows.items():
        print(f"{name:<27} {microseconds:8.1f} us p50")


if __name__ == "__main__":
    main()
