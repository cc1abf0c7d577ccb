"""How an answer is asked for, and asked for again when it is no good: one decision for every host, sync and async.

A talk yields requests and is sent what came back, until it has objects or gives up. An answer is never taken for whole
that was cut at its limit: it is asked for once more with a higher one. One that does not fit is asked for once more
too: single values that are wrong by themselves, with the errors and nothing of the conversation; anything else from
the conversation, in plain rows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Any, Literal

from llm_savings import settings, tokens
from llm_savings.errors import ConfigError
from llm_savings.evidence import AT_END
from llm_savings.ledger import Ledger
from llm_savings.structured.answers import Reading, fixes_question, fixes_rule, mended, parsed, read
from llm_savings.structured.forms import Form, Target, compact_json, smallest, texts_in
from llm_savings.structured.lengths import Lengths
from llm_savings.structured.rules import Traits, traits
from llm_savings.structured.schema import Dialect, Lean, leaned
from llm_savings.structured.words import count_words, language, tokens_of_words

_MARGIN = 1.2  # over the p99 of the answers so far
_RAISED = 4
_SLACK = 1.1  # an answer that is so much longer than asked for is taken: asking again costs more
_LEAST = 16  # OpenAI's responses take no lower limit
_UNSAID = 1_024  # what hosts commonly limit answers to without being told to
_FRAME = 8  # tokens around the words of an answer
_OTHERS = 2  # other makers' tokenizers make up to twice as many tokens as OpenAI's; see `llm_savings.history`

_LIMITS = {
    "en": "At most {} words in all.",
    "ko": "모두 합쳐 {}단어 이내.",
    "code": "At most {} words in all.",
}
_SUMMARIES = {
    "en": "Summarize this in at most {} words:\n\n{}",
    "ko": "다음 글을 {}단어 이내로 요약하세요:\n\n{}",
    "code": "Say what this does, in at most {} words:\n\n{}",
}

_log = logging.getLogger("llm_savings.structured")
_dice: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How answers are kept short.

    Attributes:
        many: A list of objects is asked for.
        max_words: The most words of an answer, in all its texts. A tenth more is let pass.
        max_tokens: The most output tokens of the first attempt. Without it, a fifth more than 99 of 100 answers took
            so far, once 50 are known.
        short_keys: Letters may stand for the names of fields.
        sample: Objects such as the answers will hold, to choose the form by; stand-ins without it.
        verbosity: OpenAI's parameter ("low"), for models that take it; others are not sent it.
        reasoning_effort: How long models think that take this parameter; others are not sent it.
        stop: Stop sequences, for models that take them. Only for texts: JSON ends by itself.
        holdout: The share of calls, at most a half, that is made as it would be without all this, to measure by.
        shadow: Make all calls so, and only record what would have been done.
        ledger: Where past answers are, so that a new process knows how long they get; a `Ledger` or what has one.

    Raises:
        ConfigError: A value makes no sense.
    """

    many: bool = False
    max_words: int | None = None
    max_tokens: int | None = None
    short_keys: bool = False
    sample: Any = None
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_effort: str | None = None
    stop: tuple[str, ...] = ()
    holdout: float = 0.0
    shadow: bool = False
    ledger: Any = None

    def __post_init__(self) -> None:
        for name in ("max_words", "max_tokens"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} is {value!r}; expected a whole number from 1")
        if not 0 <= self.holdout <= 0.5:
            raise ConfigError(f"holdout is {self.holdout!r}; expected a share from 0 to 0.5, such as 0.05")
        if self.ledger is not None and not isinstance(getattr(self.ledger, "ledger", self.ledger), Ledger):
            raise ConfigError(f"ledger is {type(self.ledger).__name__}; expected a Ledger, CostCallback or CostLogger")

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Options from a caller's keywords.

        Raises:
            ConfigError: There is no such option, or a value makes no sense.
        """
        if strange := [name for name in given if name not in cls.__dataclass_fields__]:
            raise ConfigError(f"no option {strange[0]!r}; expected one of {', '.join(cls.__dataclass_fields__)}")
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send.

    Attributes:
        name: What the answer is called.
        schema: The schema that it must fit; None for a text.
        plain: The host shall ask for it as it always does.
        ask: What to ask in place of the conversation.
        limit: A limit to say at the end of the conversation.
        params: `max_tokens`, `verbosity`, `reasoning_effort` and `stop`, if they are to be sent.
        evidence: What to note of it for the ledger.
        again: It is asked again; what it costs is an overhead.
    """

    name: str
    schema: Lean | None = None
    plain: bool = False
    ask: str | None = None
    limit: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    evidence: Mapping[str, Any] | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Got:
    """What came back.

    Attributes:
        text: The answer's text, or the arguments of the tool call that it is.
        ended: Why it ended early, if it did.
        output: Its output tokens, as far as they were told.
    """

    text: str
    ended: Literal["cut", "refused"] | None = None
    output: int | None = None


Talk = Generator[Request, Got, Reading]


class Compact:
    """Asks for objects of a model, or for texts, in few tokens. Safe for threads.

    Args:
        schema: A pydantic model or another type that pydantic can validate; `str` for texts.
        options: How answers are kept short.

    Raises:
        ConfigError: The model has no JSON schema.
    """

    def __init__(self, schema: Any, options: Options | None = None) -> None:
        self.options = options or Options()
        self._shadow = self.options.shadow or settings.shadow()
        self.name = "text" if schema is str else str(getattr(schema, "__name__", "answer"))
        self._target = None if schema is str else _target(schema, self.options.many)
        self._plain = _plain_schema(self._target) if self._target else None
        self._forms: dict[str, Form] = {}
        self._lengths = Lengths(self.name, self.options.ledger)

    def talk(self, model: str, provider: str | None = None, *, question: str = "", limit: int | None = None) -> Talk:
        """The talk with a model about one answer; it returns how the last answer was read.

        Args:
            model: The model, as the ledger names it.
            provider: The host's name of the provider.
            question: The text asked about, for its language.
            limit: The caller's own limit of output tokens, which the first attempt keeps.
        """
        known, form = Traits(), self._form(model, plain=True)
        request = Request(name=self.name, schema=self._plain, plain=True)
        off, shadow = settings.disabled(), self._shadow
        held = not (off or shadow) and self.options.holdout > 0 and _dice() < self.options.holdout
        try:
            known = traits(model, provider)
            if shadow or held:
                request = replace(request, evidence=self._unsaved(model))
            elif not off:
                small = self._form(model, plain=False)
                request, form = self._request(small, known, model, question, limit), small
        except Exception:  # noqa: BLE001 (a saving that fails must not take the call with it)
            _log.exception("an answer is asked for as it would be without llm_savings")
        raised = asked = off or shadow
        mending: Reading | None = None
        while True:
            got = yield request
            reading = self._read(form, got, mending)
            if reading.fault is None:
                if got.output and not request.again and not (off or shadow):
                    self._lengths.learn(model, got.output, held=held)
                return reading
            if reading.fault == "cut" and not raised and (cap := _raised(request, got, known, limit)) is not None:
                raised, request = True, replace(request, params={**request.params, "max_tokens": cap})
            elif reading.fault not in ("cut", "refused") and not asked:
                asked = True
                if not request.plain and not reading.wrong and reading.fault != "long":
                    form = self._form(model, plain=True)
                mending = reading if reading.wrong or (self._target is None and reading.fault == "long") else None
                request = self._again(request, form, reading, mending, known)
            else:
                return reading
            request = replace(request, again=True, evidence={"again": reading.fault})

    def _form(self, model: str, *, plain: bool) -> Form | None:
        if self._target is None:
            return None
        name = "" if plain else tokens.encoding_name(model)
        if name not in self._forms:
            options = self.options
            self._forms[name] = (
                next(self._target.forms())
                if plain
                else smallest(self._target, options.sample, short=options.short_keys, model=model)
            )
        return self._forms[name]

    def _request(self, form: Form | None, known: Traits, model: str, question: str, most: int | None) -> Request:
        options, limit = self.options, _LIMITS[language(question)].format(self.options.max_words)
        params: dict[str, Any] = {}
        if (cap := self._cap(known, model, question)) is not None:
            params["max_tokens"] = max(_LEAST, min(cap, most or cap))
        if options.verbosity and known.verbosity:
            params["verbosity"] = options.verbosity
        if options.reasoning_effort in known.efforts:
            params["reasoning_effort"] = options.reasoning_effort
        if options.stop and known.stops and form is None:
            params["stop"] = list(options.stop)
        evidence: dict[str, Any] = {"schema": self.name, "form": form.name if form else "text"}
        schema = None
        if form is not None:
            schema = form.schema(known.provider)
            evidence["strict"] = schema.strict
            if options.max_words:
                about = schema.schema.get("description")
                told = f"{about} {limit}" if about else limit
                schema = replace(schema, schema={**schema.schema, "description": told})
        evidence[AT_END] = partial(self._baseline, form, model)
        return Request(
            name=self.name,
            schema=schema,
            limit=limit if options.max_words and form is None else None,
            params=params,
            evidence=evidence,
        )

    def _unsaved(self, model: str) -> Mapping[str, Any]:
        """The evidence of a call that is made as it would be without all this."""
        if not self._shadow:
            return {"schema": self.name, "form": "plain", "holdout": True}
        form = self._form(model, plain=False)
        name = form.name if form else "text"
        return {"shadow": True, "schema": self.name, "form": name, AT_END: partial(self._would_be, form)}

    def _again(
        self, request: Request, form: Form | None, reading: Reading, mending: Reading | None, known: Traits
    ) -> Request:
        if mending is None:
            return request if request.plain or not form else replace(request, schema=form.schema(known.provider))
        params = {name: value for name, value in request.params.items() if name != "max_tokens"}
        if self._target is None:
            shorter = f"Say this in at most {self.options.max_words} words, in its language:\n{reading.rows}"
            return Request(name=self.name, ask=shorter, params=params)
        schema = leaned(fixes_rule(reading.wrong), self._target.defs, Dialect.of(known.provider))
        return Request(name="fixes", schema=schema, ask=fixes_question(reading.wrong), params=params)

    def _read(self, form: Form | None, got: Got, mending: Reading | None) -> Reading:
        if got.ended == "refused":
            return Reading(fault="refused", says="the model refused to answer")
        if got.ended == "cut":
            return Reading(fault="cut", says="the answer was cut at its limit of tokens")
        if form is None:
            text = got.text.strip()
            if not text:
                return Reading(fault="unreadable", says="the answer is empty")
            return self._within(Reading(value=text, rows=text))
        if mending is None:
            return self._within(read(form, got.text))
        try:
            fixes = parsed(got.text)
        except (ValueError, RecursionError):
            return replace(mending, wrong=())
        return self._within(mended(form, mending, fixes))

    def _within(self, reading: Reading) -> Reading:
        most = self.options.max_words
        if most is None or reading.fault is not None:
            return reading
        words = sum(map(count_words, texts_in(reading.rows)))
        if words <= most * _SLACK:
            return reading
        return Reading(fault="long", says=f"{words} words; at most {most} were asked for", rows=reading.rows)

    def _cap(self, known: Traits, model: str, question: str) -> int | None:
        caps = [self.options.max_tokens] if self.options.max_tokens else []
        if (most := self._lengths.usual(model)) is not None:
            caps.append(ceil(most * _MARGIN))
        elif self._target is None and self.options.max_words and not known.reasons:
            words = ceil(self.options.max_words * _SLACK)
            most = tokens_of_words(words, language(question), model=model) + _FRAME
            caps.append(most if known.provider == "openai" else most * _OTHERS)
        return min(caps, default=None)

    def _baseline(self, form: Form | None, model: str, text: str, output: int) -> Mapping[str, Any]:
        """What the answer would have been without all this, once it is there."""
        if (mean := self._lengths.mean_held(model)) is not None:
            return {"baseline_output": mean, "basis": "measured"}
        if form is None:
            return {}
        return modelled(form, text, output)

    def _would_be(self, form: Form | None, text: str, output: int) -> Mapping[str, Any]:
        plain = self._form("", plain=True)
        if form is None or plain is None:
            return {}
        answer = parsed(text)
        shorter = tokens.count(compact_json(answer)) - _tokens(form, plain.rows(answer))
        return {"baseline_output": output, "would_be_output": max(0, output - shorter)}


def modelled(form: Form, text: str, output: int) -> Mapping[str, Any]:
    """What an answer in a form would have taken as compact JSON, as evidence.

    Raises:
        ValueError: The text is no such answer.
    """
    answer = parsed(text)
    longer = _tokens(next(form.target.forms()), form.rows(answer)) - tokens.count(compact_json(answer))
    return {"baseline_output": max(0, output + longer), "basis": "modelled"}


def summary_question(text: str, max_words: int) -> str:
    """The question for a summary, in the language of the text.

    Example:
        >>> summary_question("배송이 너무 늦었어요.", 5).splitlines()[0]
        '다음 글을 5단어 이내로 요약하세요:'
    """
    return _SUMMARIES[language(text)].format(max_words, text)


def _tokens(form: Form | None, rows: Any) -> int:
    return tokens.count(form.written(rows)) if form else 0


def _raised(request: Request, got: Got, known: Traits, own: int | None) -> int | None:
    """A higher limit than the one that an answer was cut at, or None where the model has none."""
    limit = request.params.get("max_tokens") or own or max(_UNSAID, got.output or 0)
    if known.most is not None and limit >= known.most:
        return None
    return min(limit * _RAISED, known.most or limit * _RAISED)


def _target(schema: Any, many: bool) -> Target:
    try:
        return Target(schema, many=many)
    except Exception as error:
        raise ConfigError(f"schema {schema!r} has no JSON schema that a model could be given: {error}") from error


def _plain_schema(target: Target) -> Lean:
    """What pydantic itself says of the answer, which a host asks for as it always does."""
    own = target.adapter.json_schema()
    if target.wrapper:
        defs = own.pop("$defs", {})
        own = {"type": "object", "properties": {target.wrapper: own}, "required": [target.wrapper]}
        own |= {"$defs": defs} if defs else {}
    return Lean(own, ("the schema is the host's own affair",))
