"""What is asked, and asked again: the same for every host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from llm_savings.errors import ConfigError
from llm_savings.evidence import AT_END
from llm_savings.ledger import Ledger, Sent, Settled
from llm_savings.structured import MaxWords, Reading, columnar
from llm_savings.structured import compact as module
from llm_savings.structured.compact import Compact, Got, Options, Request, summary_question
from llm_savings.structured.words import count_words, language, tokens_of_words
from llm_savings.tokens import count
from llm_savings.usage import Usage


class Item(BaseModel):
    name: str
    price: float
    phrase: Annotated[str, MaxWords(3)] = ""


ITEMS = [Item(name=f"Mug {n}", price=n + 0.5) for n in range(5)]
COLUMNS = columnar(Item).write(ITEMS)
ROWS = json.dumps({"items": [item.model_dump() for item in ITEMS]})


class Said:
    """A talk with somebody who gives these answers, one after the other."""

    def __init__(self, compact: Compact, *answers: Got, model: str = "gpt-4o-mini", **how: Any) -> None:
        self.requests: list[Request] = []
        talk, left = compact.talk(model, "openai", **how), iter(answers)
        self.requests.append(next(talk))
        self.reading = Reading(fault="unreadable")
        try:
            for got in left:
                self.requests.append(talk.send(got))
        except StopIteration as end:
            self.reading = end.value
        assert next(left, None) is None, "all answers were heard"


def many(**options: Any) -> Compact:
    return Compact(Item, Options.of(many=True, **options))


def test_a_good_answer_is_asked_for_once() -> None:
    said = Said(many(), Got(COLUMNS, output=80))
    (request,) = said.requests
    assert said.reading.value == ITEMS and request.schema is not None and request.schema.strict
    assert list(request.schema.schema["properties"]) == ["name", "price", "phrase"]
    assert not request.params and not request.again and request.limit is None


def test_a_cut_answer_is_asked_for_again_with_a_higher_limit() -> None:
    said = Said(many(max_tokens=50), Got(COLUMNS[:30], "cut", 50), Got(COLUMNS, output=80))
    first, second = said.requests
    assert said.reading.value == ITEMS
    assert (first.params["max_tokens"], second.params["max_tokens"]) == (50, 200)
    assert second.again and second.ask is None and second.evidence == {"again": "cut"}


@pytest.mark.parametrize("text", ["", COLUMNS, COLUMNS[:40]])
def test_what_is_cut_twice_is_never_taken(text: str) -> None:
    said = Said(many(), Got(text, "cut", 1_500), Got(text, "cut", 6_000))
    assert said.reading.fault == "cut" and said.reading.value is None
    assert said.requests[1].params["max_tokens"] == 6_000


def test_the_callers_own_limit_is_kept_at_first_and_the_models_always() -> None:
    assert Said(many(), Got("", "cut", 16), Got(COLUMNS)).requests[1].params["max_tokens"] == 4_096  # nobody set it
    asked = Said(many(max_tokens=500), Got(COLUMNS), limit=300).requests[0]
    assert asked.params["max_tokens"] == 300
    most = 16_384  # gpt-4o-mini's
    raised = Said(many(), Got("", "cut"), Got(COLUMNS), limit=most - 1).requests[1]
    assert raised.params["max_tokens"] == most
    assert Said(many(), Got("", "cut"), limit=most).reading.fault == "cut"  # nothing higher is left


@pytest.mark.parametrize("bad", ["{", json.dumps(json.loads(COLUMNS) | {"name": ["Mug"]}), "{}"])
def test_columns_that_are_no_good_are_asked_for_again_in_rows(bad: str) -> None:
    said = Said(many(), Got(bad, output=40), Got(ROWS, output=120))
    assert said.reading.value == ITEMS
    again = said.requests[1]
    assert again.again and again.ask is None and again.schema is not None
    assert list(again.schema.schema["properties"]) == ["items"]
    assert Said(many(), Got(bad), Got("{}")).reading.fault == "misfit"


def test_wrong_values_are_asked_for_again_alone() -> None:
    bad = json.dumps(json.loads(COLUMNS) | {"price": ["0.5 EUR", 1.5, 2.5, 3.5, 4.5]})
    said = Said(many(), Got(bad, output=80), Got('{"v1": 0.5}', output=5))
    assert said.reading.value == ITEMS
    again = said.requests[1]
    assert again.ask is not None and "0.5 EUR" in again.ask and "Mug" not in again.ask
    assert count(again.ask) < 50 and again.again
    for answer in ('{"v1": null}', '{"v1": "0.5"}', "sorry", '{"v1": 0.5'):
        assert Said(many(), Got(bad), Got(answer)).reading.fault == "invalid"


def test_all_of_it_can_go_wrong_one_after_the_other() -> None:
    bad = json.dumps(json.loads(COLUMNS) | {"price": ["x", 1.5, 2.5, 3.5, 4.5]})
    said = Said(many(), Got("", "cut", 10), Got(bad), Got('{"v1": 0.5}'))
    assert said.reading.value == ITEMS
    assert [request.again for request in said.requests] == [False, True, True]
    assert "max_tokens" not in said.requests[2].params


def test_a_refusal_is_final() -> None:
    assert Said(many(), Got("no", "refused")).reading.fault == "refused"


def test_the_limit_is_what_answers_have_taken_so_far() -> None:
    compact = many()
    for output in range(1, 51):
        assert "max_tokens" not in Said(compact, Got(COLUMNS, output=output)).requests[0].params
    assert Said(compact, Got(COLUMNS)).requests[0].params["max_tokens"] == 60  # 50 and a fifth
    assert "max_tokens" not in Said(compact, Got(COLUMNS), model="gpt-4o").requests[0].params  # its own history
    assert Said(compact, Got("", "cut", 60), Got(COLUMNS, output=9_999)).requests[1].params["max_tokens"] == 240
    assert Said(compact, Got(COLUMNS)).requests[0].params["max_tokens"] == 60  # what was asked again is left out


def test_a_ledger_knows_how_long_answers_get() -> None:
    ledger = Ledger(":memory:")
    held = {"schema": "Item", "holdout": True}
    for n in range(90):
        output = {"schema": "Item", "baseline_output": 9} if n < 60 else held if n < 80 else {"schema": "Other"}
        sent = Sent(call_id=str(n), host="sdk", requested_model="gpt-4o-mini")
        ledger.sent(sent)
        used = Usage(input=1, output=100 if n < 60 else 300)
        ledger.settle(sent, Settled(status="ok", basis="measured", usage=used, strategies={"output": output}))
    compact = many(ledger=ledger)
    (request,) = Said(compact, Got(COLUMNS, output=80)).requests
    assert request.params["max_tokens"] == 120
    assert request.evidence is not None
    assert request.evidence[AT_END](COLUMNS, 80) == {"baseline_output": 300, "basis": "measured"}


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    thrown: list[float] = []
    monkeypatch.setattr(module, "_dice", lambda: thrown.pop(0) if thrown else 0.99)
    yield thrown


def test_the_baseline_is_modelled_until_enough_calls_were_held_out(dice: list[float]) -> None:
    compact = many(holdout=0.05)
    (request,) = Said(compact, Got(COLUMNS, output=100)).requests
    assert request.evidence is not None
    found = request.evidence[AT_END](COLUMNS, 100)
    plain = json.dumps({"items": [item.model_dump() for item in ITEMS]}, separators=(",", ":"))
    assert found == {"baseline_output": 100 + count(plain) - count(COLUMNS), "basis": "modelled"}
    for _ in range(20):
        dice[:] = [0.04]
        said = Said(compact, Got(ROWS, output=200))
        assert said.reading.value == ITEMS and said.requests[0].plain
        assert said.requests[0].evidence == {"schema": "Item", "form": "plain", "holdout": True}
        assert not said.requests[0].params
    assert request.evidence[AT_END](COLUMNS, 100) == {"baseline_output": 200, "basis": "measured"}


def test_what_is_held_out_is_asked_as_pydantic_says_it(dice: list[float]) -> None:
    dice[:] = [0.0]
    (request,) = Said(many(holdout=0.5), Got(ROWS)).requests
    assert request.schema is not None
    items = request.schema.schema["properties"]["items"]
    assert items["items"] == {"$ref": "#/$defs/Item"} and request.schema.schema["$defs"]["Item"]["title"] == "Item"
    assert "maxWords" not in json.dumps(request.schema.schema)


def test_in_shadow_nothing_changes_but_the_evidence() -> None:
    said = Said(many(shadow=True), Got(ROWS, output=150))
    (request,) = said.requests
    assert said.reading.value == ITEMS and request.plain and request.evidence is not None
    assert {k: v for k, v in request.evidence.items() if k != AT_END} == {
        "shadow": True,
        "schema": "Item",
        "form": "columns",
    }
    told = request.evidence[AT_END](ROWS, 150)
    assert told["baseline_output"] == 150 and 0 < told["would_be_output"] < 150
    assert Said(many(shadow=True), Got("{")).reading.fault == "unreadable"  # nor is it asked again


def test_a_defect_of_the_saving_is_not_the_callers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(module, "smallest", fails)
    said = Said(many(), Got("{"), Got(ROWS))
    assert said.reading.value == ITEMS and said.requests[0].plain
    assert "as it would be without llm_savings" in caplog.text


def test_switched_off_it_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    said = Said(many(holdout=0.5, max_tokens=5), Got(ROWS, output=150))
    (request,) = said.requests
    assert said.reading.value == ITEMS and request.plain and request.evidence is None and not request.params


def test_parameters_are_sent_to_models_that_take_them() -> None:
    wanted: dict[str, Any] = {"verbosity": "low", "reasoning_effort": "low"}
    assert Said(many(**wanted), Got(COLUMNS), model="gpt-5-mini").requests[0].params == wanted
    assert Said(many(**wanted), Got(COLUMNS), model="gpt-4o-mini").requests[0].params == {}
    assert Said(many(**wanted), Got(COLUMNS), model="o3").requests[0].params == {"reasoning_effort": "low"}
    none = many(reasoning_effort="none")  # o3 has no such effort
    assert Said(none, Got(COLUMNS), model="o3").requests[0].params == {}
    text = Compact(str, Options.of(stop=("\n\n",)))
    assert Said(text, Got("Yes.")).requests[0].params == {"stop": ["\n\n"]}
    assert Said(text, Got("Yes."), model="o3").requests[0].params == {}
    assert Said(many(stop=("x",)), Got(COLUMNS)).requests[0].params == {}  # JSON ends by itself


def test_texts_are_limited_in_words_and_capped_by_their_language() -> None:
    short = Compact(str, Options.of(max_words=5))
    english = Said(short, Got("It came late."), question="Was it late?")
    korean = Said(short, Got("배송이 늦었다."), question="배송이 늦었나요?")
    assert english.reading.value == "It came late." and english.requests[0].limit == "At most 5 words in all."
    assert korean.requests[0].limit == "모두 합쳐 5단어 이내."
    assert 5 < english.requests[0].params["max_tokens"] < korean.requests[0].params["max_tokens"]
    assert "max_tokens" not in Said(short, Got("Yes."), model="gpt-5-mini").requests[0].params  # it thinks first
    long = "one two three four five six seven"
    again = Said(short, Got(long), Got("one two three"))
    assert again.reading.value == "one two three"
    assert again.requests[1].ask is not None and long in again.requests[1].ask
    assert Said(short, Got(long), Got(long)).reading.fault == "long"
    assert Said(short, Got(" "), Got("Yes.")).reading.value == "Yes."


def test_a_limit_of_words_holds_over_all_fields() -> None:
    said = Said(many(max_words=11), Got(COLUMNS))
    assert said.reading.value == ITEMS and said.requests[0].schema is not None
    assert said.requests[0].schema.schema["description"].endswith("At most 11 words in all.")
    assert Said(many(max_words=8), Got(COLUMNS), Got(COLUMNS)).reading.fault == "long"


def test_words_and_languages() -> None:
    assert (count_words("정말 좋은 제품"), count_words("a, b-c"), count_words("日本語"), count_words(" ")) == (
        3,
        2,
        3,
        0,
    )
    assert [language(text) for text in ("hello", "안녕 hello", "x = f(1);\n", "")] == ["en", "ko", "code", "en"]
    for model in ("gpt-4o", "gpt-4"):
        assert tokens_of_words(100, "en", model=model) < tokens_of_words(100, "ko", model=model)
    assert summary_question("It was late.", 9).startswith("Summarize this in at most 9 words")


@pytest.mark.parametrize(
    "given",
    [{"max_words": 0}, {"max_tokens": 2.5}, {"holdout": 0.6}, {"holdout": -1}, {"ledger": "costs.db"}, {"nonsense": 1}],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Options.of(**given)


def test_a_type_without_a_schema_is_refused() -> None:
    with pytest.raises(ConfigError, match="no JSON schema"):
        Compact(object())
