"""What of a call can be said ahead of the replay, since no answer before it changes that.

Whether it can wait, which model routing chooses, what the semantic cache is asked, and how that is read: half of the
work, which `audit` may leave to another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from llm_savings.attribution import Facts
from llm_savings.audit.choices import Choices
from llm_savings.audit.prefixes import Beginning
from llm_savings.audit.records import Record
from llm_savings.bounds import limits
from llm_savings.errors import SavingsError
from llm_savings.pricing import PriceBook
from llm_savings.routing import ComplexityRouter
from llm_savings.semantic_cache import AnswerCache, Miss, Question, Reading, Request
from llm_savings.semantic_cache.match import Question as Words
from llm_savings.usage import Usage

_NOT_IN_SCOPE = frozenset(("stream", "stream_options", "user", "metadata", "model", "messages"))
_SENT = 1_000  # texts whose reading is not sent again


class Route(NamedTuple):
    """Where a router may send the calls of one model at one provider.

    Attributes:
        router: Chooses.
        large: The model's name in the price book.
        small: The smaller one's.
        elsewhere: Whether that is the price of another provider than the calls'.
    """

    router: ComplexityRouter
    large: str
    small: str
    elsewhere: bool


class Ahead(NamedTuple):
    """What is said of one call.

    Attributes:
        waits: It goes into a batch.
        model: The model that routing chose, or its own.
        sufficiency: The probability that the smaller model does; None where nothing was routed.
        question: What the cache is asked, or why it is not; None where there is no cache, or no prompt.
        reading: Of the question's text, where it was read already.
        begins: Of the prompt, where that was looked at already.
    """

    waits: bool
    model: str
    sufficiency: float | None = None
    question: Question | Miss | None = None
    reading: Reading | None = None
    begins: Sequence[int] | None = None

    def plain(self) -> tuple[list[Any], bytes]:
        """As JSON has it, and the vector as bytes."""
        asked, reading = self.question, self.reading
        if isinstance(asked, Question):
            asked = (asked.id, asked.scope, asked.domain, asked.text, asked.model, asked.namespace)
        elif asked is not None:
            asked = asked.reason
        words = None if reading is None else reading.words.plain()
        return [*self[:3], asked, words, self.begins], b"" if reading is None else reading.vector.tobytes()

    @classmethod
    def of(cls, values: list[Any], vector: bytes) -> Ahead:
        """What `plain` gave these for."""
        waits, model, sufficiency, asked, words, begins = values
        if isinstance(asked, list):
            name, scope, domain, text, asked_model, namespace = cast("list[str]", asked)
            asked = Question(id=name, scope=scope, domain=domain, text=text, model=asked_model, namespace=namespace)
        elif asked is not None:
            asked = Miss(reason=asked)
        reading = None if words is None else Reading(np.frombuffer(vector, np.float32), Words.of_plain(words))
        return cls(waits, model, sufficiency, asked, reading, begins)


class Foresight:
    """Looks at calls in order of time; routing remembers their conversations.

    Args:
        choices: What is tried.
        prices: The price book.
        cache: Whose questions they are.
    """

    def __init__(self, choices: Choices, prices: PriceBook, cache: AnswerCache) -> None:
        self._choices, self._prices, self._cache = choices, prices, cache
        self._routes: dict[tuple[str, str | None], Route | None] = {}
        self._sent: dict[str, None] = {}

    def see(self, record: Record, used: Usage) -> Ahead:
        """What can be said of a call whose price is known."""
        model = record.model
        tried = self._choices.strategies
        if "batch" in tried and record.mode == "standard" and self._choices.can_wait(record):
            asked = Facts(model=model, usage=used.uncached(), mode="batch", provider=record.provider, at=record.at)
            if self._is_priced(asked):
                return Ahead(True, model)
        if not record.messages:
            return Ahead(False, model)
        sufficiency = None
        if "routing" in tried and (route := self.route(model, record.provider)) is not None:
            decision = route.router.route(
                record.messages,
                tools=list(record.tools) or None,
                response_format=record.parameters.get("response_format"),
                max_tokens=limits(record.parameters)[0],
                conversation=record.session,
            )
            model, sufficiency = decision.model, decision.sufficiency or 1.0
        return Ahead(False, model, sufficiency, self._question(record, model) if "semantic_cache" in tried else None)

    def read(self, record: Record) -> Ahead | None:
        """As `see`, with all that can be read ahead; None of a call that is not replayed."""
        used = record.usage
        if record.hit or record.failed or used is None:
            return None
        if not self._is_priced(
            Facts(model=record.model, usage=used, mode=record.mode, provider=record.provider, at=record.at)
        ):
            return None
        ahead = self.see(record, used)
        if record.messages and record.at is not None and "prompt_cache" in self._choices.strategies:
            ahead = ahead._replace(begins=Beginning.of(record).keys)
        asked = ahead.question
        if (
            not isinstance(asked, Question)
            or len(asked.text) > self._cache.settings.longest
            or asked.text in self._sent
        ):
            return ahead
        self._sent[asked.text] = None
        if len(self._sent) > _SENT:
            del self._sent[next(iter(self._sent))]
        return ahead._replace(reading=self._cache.reading(asked.text))

    def route(self, model: str, provider: str | None) -> Route | None:
        """Where the calls of a model may go; None where there is no smaller one, or none with a known price."""
        if (model, provider) not in self._routes:
            self._routes[model, provider] = self._found(model, provider)
        return self._routes[model, provider]

    def _found(self, model: str, provider: str | None) -> Route | None:
        small, large = self._choices.small(model), self._key(model, provider)
        if not small or not large:
            return None
        own = self._key(small, provider or model.rpartition("/")[0] or None)
        key = own or self._key(small, None)
        router = ComplexityRouter({"simple": small, "complex": model}, prices=self._prices)
        return Route(router, large, key, own is None) if key else None

    def _key(self, model: str, provider: str | None) -> str | None:
        """The name in the price book of a model with a known price."""
        if not self._is_priced(Facts(model=model, usage=Usage(input=1, output=1), provider=provider)):
            return None
        return self._prices.resolve(model, provider=provider)

    def _is_priced(self, facts: Facts) -> bool:
        try:
            facts.price(self._prices, frozenset(facts.active))
        except SavingsError:
            return False
        return True

    def _question(self, record: Record, model: str) -> Question | Miss:
        parameters = {name: value for name, value in record.parameters.items() if name not in _NOT_IN_SCOPE}
        asked = Request(
            model=model,
            messages=cast("Any", record.messages),
            parameters={**parameters, "tools": list(record.tools) or None},
            namespace=(record.tenant or "") if self._choices.per_tenant else "",
        )
        return self._cache.asked(asked)
