"""A call as OpenTelemetry attributes: the conventions' own names where they have one, ours for money.

Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/. Amounts are decimal text in USD, as an attribute has no
exact number. Users, sessions, tags and texts are left out: who wants them on a span puts them there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from llm_savings.attribution import facts_of
from llm_savings.errors import ConfigError
from llm_savings.ledger import Call
from llm_savings.meter import Meter
from llm_savings.metered import Metered

Attribute = str | int | tuple[str, ...]


def otel_attributes(call: Call) -> dict[str, Attribute]:
    """What is known of a call; what is not known is left out.

    Args:
        call: A row of the ledger, as `Ledger.calls` and `Ledger.get` give it.

    Example:
        >>> from llm_savings.ledger import Sent, Settled
        >>> sent = Sent(call_id="1", host="sdk", requested_model="gpt-4o")
        >>> end = Settled(status="ok", basis="measured", model="gpt-4o-2024-08-06", actual=Decimal("0.0021"))
        >>> found = otel_attributes(Call(sent, end))
        >>> found["gen_ai.response.model"], found["llm_savings.cost_usd"]
        ('gpt-4o-2024-08-06', '0.0021')
    """
    sent, settled = call.sent, call.settled
    found: dict[str, Attribute | None] = {
        "gen_ai.request.model": sent.requested_model,
        "gen_ai.provider.name": sent.provider,
        "llm_savings.call_id": sent.call_id,
        "llm_savings.status": call.status,
        "llm_savings.basis": call.basis,
    }
    if settled is not None:
        used, facts = settled.usage, facts_of(call)
        found |= {
            "gen_ai.response.model": settled.model,
            "gen_ai.response.id": settled.response_id,
            "error.type": settled.error,
            "llm_savings.mode": settled.mode,
            "llm_savings.strategies": facts and tuple(map(str, facts.active)),
        }
        if used:
            found |= {
                "gen_ai.usage.input_tokens": used.prompt,
                "gen_ai.usage.output_tokens": used.completion,
                "gen_ai.usage.cache_read.input_tokens": used.cache_read + used.audio_cache_read,
                "gen_ai.usage.cache_creation.input_tokens": used.cache_write_5m + used.cache_write_1h,
            }
        if settled.actual is not None:
            baseline = settled.actual if settled.baseline is None else settled.baseline
            found |= {
                "llm_savings.cost_usd": format(settled.actual, "f"),
                "llm_savings.saved_usd": format(baseline - settled.actual, "f"),
            }
    return {name: value for name, value in found.items() if value is not None}


def on_spans(meter: Metered | Meter) -> None:
    """From now on each call sets its attributes on the span that was current where the call began.

    A span with several calls has the attributes of the last one to end, and an event `llm_savings.call` for each.

    Args:
        meter: A `CostCallback`, `CostLogger` or `Meter`.

    Raises:
        ConfigError: opentelemetry-api is not installed.

    Example:
        >>> on_spans(CostCallback("costs.db"))                                    # doctest: +SKIP
    """
    try:
        trace = import_module("opentelemetry.trace")
    except ImportError as error:
        raise ConfigError("on_spans needs opentelemetry-api; install it with: pip install opentelemetry-api") from error

    def watch() -> Callable[[Call], object]:
        span: Any = trace.get_current_span()
        return lambda call: _set(span, call)

    (meter.meter if isinstance(meter, Metered) else meter).watch = watch


def _set(span: Any, call: Call) -> None:
    if span.is_recording():  # not so where the span has ended before the call
        attributes = otel_attributes(call)
        span.set_attributes(attributes)
        span.add_event("llm_savings.call", attributes)
