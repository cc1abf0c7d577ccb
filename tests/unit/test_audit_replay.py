"""The replay claims nothing that the strategies would not do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from llm_savings.audit import Choices, Record, audit
from llm_savings.audit.replay import Replay
from llm_savings.audit.seen import Seen
from llm_savings.pricing import PriceBook
from llm_savings.usage import Usage

PRICES = PriceBook()
START = datetime(2026, 11, 2, 9, tzinfo=UTC)
POLICY = {"role": "system", "content": "달빛상점의 상담 도우미입니다. You answer for a shop. " * 300}


def calls(count: int, *, model: str = "gpt-4o", read: int = 0, gap: int = 30) -> Iterator[Record]:
    for number in range(count):
        question = {"role": "user", "content": f"주문 {number}번은 언제 오나요? Where is order {number}?"}
        yield Record(
            source="log",
            line=number + 1,
            model=model,
            usage=Usage(input=6000 - read, cache_read=read, output=20),
            at=START + timedelta(seconds=gap * number),
            messages=[POLICY, question],
            answer=f"{number}",
        )


def replayed(records: Iterable[Record], choices: Choices) -> Seen:
    replay = Replay(choices, PRICES)
    for record in records:
        replay.take(record)
    replay.close()
    return replay.seen


def test_what_a_provider_did_not_cache_by_itself_it_does_not_cache_because_of_an_audit() -> None:
    seen = replayed(calls(50, read=0), Choices(strategies=("prompt_cache",)))
    assert seen.attribution.actual == seen.spent
    assert not seen.attribution.credits


def test_what_it_did_cache_stays_as_the_log_has_it() -> None:
    seen = replayed(calls(50, read=5888), Choices(strategies=("prompt_cache",)))
    assert seen.attribution.actual == seen.spent


def test_calls_that_no_longer_come_let_a_prefix_go() -> None:
    """Every second call asks the same: without these the others are eleven minutes apart, and nothing is held."""
    records = list(calls(40, read=5888, gap=330))
    same = [replace(record, messages=records[1].messages) if n % 2 else record for n, record in enumerate(records)]
    seen = replayed(same, Choices(strategies=("prompt_cache", "semantic_cache")))
    assert seen.served == 19
    held, gone = (PRICES.price(Usage(input=6000 - read, cache_read=read, output=20), "gpt-4o") for read in (5888, 0))
    # The first three calls come as they came; of the others none reads what it read then.
    assert seen.attribution.actual == 3 * held + 18 * gone


def test_another_model_has_a_cache_of_its_own() -> None:
    seen = replayed(calls(50), Choices(strategies=("routing", "prompt_cache")))
    assert seen.routed > 10
    assert seen.attribution.credits["prompt_cache"] > 0


def test_a_provider_of_which_nothing_is_known_caches_nothing() -> None:
    records = [replace(record, provider="mistral") for record in calls(5, model="mistral/mistral-large-latest")]
    assert not replayed(records, Choices(strategies=("prompt_cache",))).attribution.credits


def test_a_batch_reads_no_cache() -> None:
    seen = replayed(calls(10, read=5888), Choices(strategies=("batch",), can_wait=lambda record: True))
    whole = PRICES.price(Usage(input=6000, output=20), "gpt-4o", mode="batch") * 10
    assert seen.attribution.actual == whole
    assert set(seen.attribution.credits) == {"batch"}


def test_an_answer_that_was_cut_off_answers_nobody_else() -> None:
    def asked(limit: str, output: int) -> int:
        records = [
            replace(record, messages=[{"role": "user", "content": "RAG가 뭐야?"}], parameters={limit: 20})
            for record in calls(3)
        ]
        records = [replace(record, usage=Usage(input=8, output=output)) for record in records]
        return replayed(records, Choices(strategies=("semantic_cache",))).served

    assert asked("max_tokens", 20) == asked("max_completion_tokens", 20) == 0
    assert asked("max_tokens", 19) == 2


def test_a_limit_that_is_no_number_does_not_keep_a_call_at_the_large_model() -> None:
    odd = [replace(record, parameters={"max_tokens": "many"}) for record in calls(20)]
    assert replayed(odd, Choices()).routed == replayed(calls(20), Choices()).routed > 0


def test_calls_without_answers_leave_nothing_behind() -> None:
    replay = Replay(Choices(strategies=("semantic_cache",)), PRICES)
    for record in calls(20):
        replay.take(replace(record, answer=None))
    assert not replay._cache._flights._flights  # questions that nobody asks any more
    assert replay.seen.spent == replay.seen.attribution.actual > Decimal(0)
    replay.close()


def test_calls_that_failed_and_used_tokens_are_an_overhead() -> None:
    records = [replace(record, failed=number % 2 == 1, answer=None) for number, record in enumerate(calls(6))]
    each = PRICES.price(Usage(input=6000, output=20), "gpt-4o")
    found = audit(records, prices=PRICES)
    assert found.spent == 6 * each
    assert found.attribution.overhead == 3 * each
    assert found.attribution.saved == sum(found.attribution.credits.values()) - 3 * each
    assert found.saved.expected == sum(found.attribution.credits.values()) > 0
    assert found.seen.lookups == 3
    assert found.priced_share == 1.0
    assert any(f"${3 * each:f} went on calls that failed" in str(note) for note in found.notes)


def test_a_smaller_model_has_the_price_of_the_calls_own_provider() -> None:
    prices = PRICES.with_overrides({
        "azure/gpt-4o": {"input": "30", "output": "30"},
        "azure/gpt-4o-mini": {"input": "3", "output": "3"},
    })  # fmt: skip
    only = Choices(strategies=frozenset(("routing",)))
    for model, provider in (("gpt-4o", "azure"), ("azure/gpt-4o", None), ("azure/gpt-4o", "azure")):
        records = [replace(record, provider=provider) for record in calls(20, model=model)]
        found = audit(records, choices=only, prices=prices)
        assert found.seen.routed > 5
        assert found.attribution.credits["routing"] == found.seen.routed * 6020 * Decimal("0.000027")
        assert not any("an assumption" in str(note) for note in found.notes)


def test_a_smaller_model_that_the_provider_has_no_price_for_is_said_to_be_an_assumption() -> None:
    records = [replace(record, provider="mistral") for record in calls(20, model="my-own")]
    prices = PRICES.with_overrides({"mistral/my-own": {"input": "30", "output": "30"}})
    only = Choices(strategies=frozenset(("routing",)), small_models={"my-own": "gpt-4o-mini"})
    found = audit(records, choices=only, prices=prices)
    small = PRICES.price(Usage(input=6000, output=20), "gpt-4o-mini")
    assert found.attribution.credits["routing"] == found.seen.routed * (6020 * Decimal("0.00003") - small) > 0
    said = f"{found.seen.routed:,} calls go to gpt-4o-mini at its maker's price, an assumption: its price at mistral"
    assert any(str(note).startswith(said) for note in found.notes)
