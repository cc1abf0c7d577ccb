"""`ComplexityRouter`: each request goes to the cheapest tier that will do, and the decision says why."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from llm_savings import settings
from llm_savings.errors import ConfigError, SavingsError
from llm_savings.pricing import PriceBook
from llm_savings.routing.article import article_class
from llm_savings.routing.calibration import Calibration, Drift, drift_between, for_loss, for_share, summed_up
from llm_savings.routing.conversations import (
    USUAL_OUTPUT,
    WARM,
    Conversations,
    Standing,
    escalation,
    leans_back,
    stick,
    worth_a_cold_cache,
)
from llm_savings.routing.decisions import Decision
from llm_savings.routing.estimating import BINS, Estimate, load, save
from llm_savings.routing.fitting import examples, learn, preferences
from llm_savings.routing.guards import Guards
from llm_savings.routing.requests import Asked, read
from llm_savings.routing.tiers import Rule, Tier, read_rules, read_tiers, tier_named
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.routing")
_EXAMPLE = Usage(input=500, output=500)  # which of two models is dearer
_UNTIL_CALIBRATED = 0.85  # probability of sufficing that a tier needs after `fit`, before `calibrate`
_CONFIDENCE = 0.95  # that the loss is within what is allowed
_FEWEST_ROWS = 30


class _Proposal(NamedTuple):
    place: int
    sufficiency: float | None
    reason: str
    pinned: bool = False


class ComplexityRouter:
    """Chooses the cheapest tier that will do, without asking anybody; for many threads.

    A decision that fails for whatever reason falls back to the strongest tier, says so in its reasons, and logs a
    warning; `route` does not raise.

    Args:
        tiers: Tier name -> a model's name or a `Tier`, from the cheapest to the strongest.
        rules: Patterns that pin a request to a tier; the first that matches counts.
        baseline: The tier that would be paid for without routing; by default the most expensive one by the price
            book, or the strongest where prices are not known.
        shadow: Decide and record, but send everything to the baseline's tier.
        experiment: Share of the requests that is sent the other way, to learn what that would have done: to the
            strongest tier instead of a cheaper one, or to the one below the strongest.
        prices: The price book, for what models cost and take.

    Raises:
        ConfigError: A setting is wrong.

    Example:
        >>> router = ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"})
        >>> router.route("파이썬이 뭐야?").model
        'gpt-4o-mini'
    """

    def __init__(
        self,
        tiers: Mapping[str, str | Tier],
        *,
        rules: Sequence[Rule] = (),
        baseline: str | None = None,
        shadow: bool = False,
        experiment: float = 0.0,
        prices: PriceBook | None = None,
    ) -> None:
        self.tiers: Mapping[str, Tier] = read_tiers(tiers)
        self.names = tuple(self.tiers)
        if not 0 <= experiment <= 0.5:
            raise ConfigError(f"experiment={experiment!r}; give a share from 0 to 0.5, such as 0.05")
        self.shadow, self.experiment = shadow or settings.shadow(), experiment
        self._prices = prices or PriceBook()
        self._pinned, self._rules = tuple(rules), read_rules(rules, self.names)
        self._baseline = None if baseline is None else tier_named(baseline, self.names, "baseline")
        self._kind: Literal["model", "article"] = "model"
        self._estimate = Estimate(_default_cuts(len(self.names)), ((1.0, 0.0),) * (len(self.names) - 1))
        self._live = [0] * BINS
        self._conversations = Conversations()
        self._warned = False
        self._guards = Guards(tuple(self.tiers.values()), self._prices)

    @classmethod
    def rules(cls, tiers: Mapping[str, str | Tier], **options: Any) -> ComplexityRouter:
        """A router by the source article's rules: its patterns of simple and complex requests, and length.

        With three tiers its classes simple, medium and complex are the tiers; with two, medium goes to the cheaper
        one, as in the article.

        Args:
            tiers: As for the class.
            options: As for the class.
        """
        router = cls(tiers, **options)
        router._kind = "article"
        return router

    @property
    def baseline(self) -> str:
        """The name of the tier that would be paid for without routing."""
        if self._baseline is None:
            self._baseline = self._dearest()
        return self._baseline

    def route(
        self,
        messages: Any,
        *,
        tools: Any = None,
        response_format: Any = None,
        max_tokens: int | None = None,
        conversation: str | None = None,
        at_least: str | None = None,
    ) -> Decision:
        """Where a request goes. Never raises.

        Args:
            messages: As the OpenAI protocol writes them, or the text of one user turn.
            tools: Tool definitions, if any.
            response_format: As the OpenAI protocol writes it.
            max_tokens: Tokens of answer asked for.
            conversation: A name of the conversation, if it is to stick to its tier.
            at_least: The name of the weakest tier that will do for the caller.
        """
        try:
            if settings.disabled():
                return self._plain(self.baseline, "disabled")
            asked = read(messages, tools=tools, response_format=response_format, max_tokens=max_tokens)
            return self._decided(asked, conversation, at_least)
        except Exception as error:  # noqa: BLE001  # a saving must not cost a call
            log = _log.debug if self._warned else _log.warning  # one warning, not one a call
            self._warned = True
            log("Routing failed (%s: %s): such requests go to the strongest tier", type(error).__name__, error)
            return self._plain(self.names[-1], "failed")

    def escalated(self, decision: Decision, reason: str = "cascade") -> Decision | None:
        """The decision for a second try with the next stronger tier that takes the request; None where there is none.

        Args:
            decision: What the first try was sent by.
            reason: Why, as a short code.
        """
        stronger = self.names[self.names.index(decision.tier) + 1 :]
        name = next((each for each in stronger if each not in decision.refused), None)
        if name is None:
            return None
        tier = self.tiers[name]
        reasons = (*decision.reasons, reason)
        return replace(
            decision,
            tier=name,
            chosen=name,
            model=tier.model,
            params=dict(tier.params),
            reasons=reasons,
            escalated=True,
        )

    def within(self, decision: Decision, allowed: Collection[str]) -> Decision:
        """The decision for a caller who may use some tiers only: the nearest of them, a stronger one first.

        What such a caller saves is reckoned against the strongest of these, which is all that it could have paid for.

        Args:
            decision: What was decided for a caller who may use all.
            allowed: Names of tiers, at least one.
        """
        given = [name for name in self.names if name in allowed]
        at = self.names.index(decision.tier)

        def far(name: str) -> tuple[bool, bool, int]:
            steps = self.names.index(name) - at
            return name in decision.refused, steps < 0, abs(steps)

        name = min(given, key=far)
        baseline = self.baseline if self.baseline in given else given[-1]
        narrowed = replace(
            decision,
            refused=(*decision.refused, *(other for other in self.names if other not in given)),
            baseline_model=self.tiers[baseline].model,
        )
        if name == decision.tier:
            return narrowed
        tier, reasons = self.tiers[name], (*decision.reasons, "access")
        return replace(narrowed, tier=name, model=tier.model, params=dict(tier.params), reasons=reasons, arm=None)

    def failed(self, conversation: str) -> None:
        """Note that an answer in this conversation was no good: after two in a row it moves up a tier."""
        self._conversations.failed(conversation, len(self.names) - 1)

    def answered(self, conversation: str) -> None:
        """Note that an answer in this conversation was good: failures are not in a row any more."""
        self._conversations.answered(conversation)

    def fit(
        self,
        prompts: Sequence[str],
        scores: Sequence[Mapping[str, float]] | None = None,
        *,
        preferred: Sequence[str] | None = None,
    ) -> ComplexityRouter:
        """Learn from the user's own prompts how good each tier's answers are. Then `calibrate`.

        Args:
            prompts: The last user turns.
            scores: For each, tier (or model) name -> quality of its answer, 0 to 1. Not every tier needs to have been
                judged: a thumb is {"simple": 1} or {"simple": 0}.
            preferred: Instead of scores, for two tiers: the name of the tier whose answer was better, or "tie".

        Returns:
            This router.

        Raises:
            ConfigError: The data cannot be used, or is too little.
        """
        learned = learn(examples(prompts, self._judged(scores, preferred), self._models))
        estimate = replace(self._estimate, learned=learned, cuts=(_UNTIL_CALIBRATED,) * (len(self.names) - 1), rows=0)
        complete = examples(prompts, self._judged(scores, preferred), self._models, complete=True)
        self._estimate, self._kind = (estimate.adjusted(complete) if complete else estimate), "model"
        return self

    def calibrate(
        self,
        prompts: Sequence[str],
        scores: Sequence[Mapping[str, float]] | None = None,
        *,
        max_loss: float | None = None,
        share: Mapping[str, float] | None = None,
    ) -> Calibration:
        """Choose the thresholds, and use them from now on.

        Prompts that the router learned from may be used again: they are estimated by a model that had not seen them.

        Args:
            prompts: The last user turns, as traffic brings them.
            scores: For each, tier (or model) name -> quality of its answer, 0 to 1; those of which not every tier was
                judged are left out. Not needed for `share`.
            max_loss: Allowed loss of quality against the strongest tier, relative: 0.05 is 5% of its quality. The loss
                is within it with 95% confidence.
            share: Instead, the share of the requests that tiers are to get: {"complex": 0.2}.

        Raises:
            ConfigError: The data cannot be used; or both or neither of `max_loss` and `share` are given.
        """
        if (max_loss is None) == (share is None):
            raise ConfigError("calibrate: give max_loss=0.05 (with scores) or share={'complex': 0.2}, one of the two")

        estimate, quality = self._estimate, None
        if scores is not None:
            rows = examples(prompts, scores, self._models, complete=True)
            if len(rows) < _FEWEST_ROWS:
                raise ConfigError(f"scores: {len(rows)} prompts have all tiers judged; {_FEWEST_ROWS} are the least")
            estimate, prompts = estimate.adjusted(rows), [row.prompt for row in rows]
            quality = np.array([row.scores for row in rows])
        if len(prompts) < _FEWEST_ROWS:
            raise ConfigError(f"prompts: there are {len(prompts)}; {_FEWEST_ROWS} are the least")
        chances = estimate.all(prompts)
        if share is not None:
            cuts = for_share(chances, share, self.names)
        elif max_loss is None or quality is None or not 0 < max_loss < 1:
            raise ConfigError(f"max_loss={max_loss!r}: give a loss between 0 and 1, and scores for the prompts")
        else:
            cuts = for_loss(chances, quality, max_loss, _CONFIDENCE)
        self._estimate, self._kind = replace(estimate, cuts=cuts).watched(chances), "model"
        self._live = [0] * BINS
        return summed_up(chances, quality, cuts, self.names, self._costs(prompts))

    def report_drift(self) -> Drift:
        """Whether what was routed since the calibration still looks like it."""
        return drift_between([1 / BINS] * BINS, list(self._live), rows=self._estimate.rows)

    def save(self, path: str | Path) -> None:
        """Write tiers, rules, what was learned and the thresholds to one file (0600), without text of prompts.

        Raises:
            ConfigError: A router by the article's rules has nothing to save, or a tier's parameter is no plain value.
            OSError: The file cannot be written.
        """
        if self._kind == "article":
            raise ConfigError(
                "a router by the article's rules has nothing to save; make it with ComplexityRouter.rules"
            )
        save(path, self.tiers, self._pinned, self._estimate)

    @classmethod
    def load(cls, path: str | Path, tiers: Mapping[str, str | Tier] | None = None, **options: Any) -> ComplexityRouter:
        """A router from a file that `save` wrote.

        Args:
            path: The file.
            tiers: Other models for the same tiers, or the same with other parameters.
            options: As for the class; `rules` replace those in the file.

        Raises:
            ConfigError: It is no such file, of another version, or its tiers have other names.
            OSError: The file cannot be read.
        """
        kept, rules, estimate = load(path)
        if tiers is not None and tuple(tiers) != tuple(kept):
            raise ConfigError(f"tiers={list(tiers)}: the file was made for the tiers {list(kept)}, in this order")
        given: dict[str, Any] = {"rules": rules, **options}
        router = cls(kept if tiers is None else tiers, **given)
        router._estimate = estimate
        return router

    @property
    def _models(self) -> dict[str, str]:
        return {name: tier.model for name, tier in self.tiers.items()}

    def _judged(
        self, scores: Sequence[Mapping[str, float]] | None, preferred: Sequence[str] | None
    ) -> Sequence[Mapping[str, float]]:
        if scores is not None and preferred is None:
            return scores
        if preferred is not None and scores is None:
            return preferences(preferred, self._models)
        raise ConfigError("fit: give scores or preferred, one of the two")

    def _costs(self, prompts: Sequence[str]) -> Any:
        """USD of each prompt on each tier with a usual answer, prompts x tiers; None where a price is not known."""
        try:
            rates = [self._prices.rates(tier.model) for tier in self.tiers.values()]
            prices = [(float(each["input"]), float(each["output"])) for each in rates]
        except (SavingsError, KeyError):
            return None
        outputs = [tier.params.get("max_tokens") or USUAL_OUTPUT for tier in self.tiers.values()]
        return np.array(
            [
                [len(prompt) / 4 * price + most * answer for (price, answer), most in zip(prices, outputs, strict=True)]
                for prompt in prompts
            ]
        )

    def _decided(self, asked: Asked, conversation: str | None, at_least: str | None) -> Decision:
        proposal = self._proposed(asked)
        if proposal.sufficiency is not None and self._estimate.rows:
            self._live[self._estimate.bin_of(asked.text, proposal.sufficiency)] += 1
        place, reasons = proposal.place, [proposal.reason]
        strongest = len(self.names) - 1
        standing = None if conversation is None else self._conversations.get(conversation)
        turn = hash((asked.turns, asked.text))
        same = standing is not None and standing.turn == turn  # the next step of an agent, or a try again
        why = None if proposal.pinned or same else escalation(asked)
        if why:
            before = standing.place if standing else self._proposed(replace(asked, text=asked.before)).place
            place = min(max(place, before + 1), strongest)
            reasons.append(why)
        if conversation is not None:
            if standing is not None and same:
                after = replace(standing, place=max(standing.place, standing.floor))
            else:
                after = stick(standing, place, raised=bool(why), worth=partial(self._worth, standing, place, asked))
            self._conversations.put(conversation, replace(after, turn=turn))
            if after.place != place and not proposal.pinned:
                place = after.place
                reasons.append("conversation")
        if at_least is not None:
            # Who names a tier that there is not wants something better than this; the strongest is the safe guess.
            least = self.names.index(at_least) if at_least in self.names else strongest
            if place < least:
                place = least
                reasons.append("at_least")
        place, guards = self._guards.nearest(place, asked)
        if guards:
            reasons.append("guard")
        chosen = place
        arm, place = self._arm(place, asked, conversation, fixed=proposal.pinned or bool(why or guards))
        name = self.baseline if self.shadow else self.names[place]
        tier = self.tiers[name]
        return Decision(
            tier=name,
            model=tier.model,
            params=dict(tier.params),
            chosen=self.names[chosen],
            chosen_model=self._model(chosen),
            sufficiency=proposal.sufficiency,
            reasons=tuple(reasons),
            guards=guards,
            baseline_model=self.tiers[self.baseline].model,
            shadow=self.shadow,
            arm=arm,
            escalated=chosen > proposal.place,
            refused=tuple(each for at, each in enumerate(self.names) if at > place and self._guards.lacking(at, asked)),
        )

    def _proposed(self, asked: Asked) -> _Proposal:
        for number, (pattern, tier) in enumerate(self._rules):
            if pattern.search(asked.text):
                return _Proposal(self.names.index(tier), None, f"rule:{number}", pinned=True)
        if self._kind == "article":
            said = article_class(asked.text)
            last = len(self.names) - 1
            places = {"simple": 0, "medium": last // 2 if last > 1 else 0, "complex": last}
            return _Proposal(places[said], None, f"article:{said}")
        estimate = self._estimate
        chances = estimate.sufficiency(asked.text)
        if leans_back(asked):  # "and why?" is as hard as what it is about
            chances = min(chances, estimate.sufficiency(asked.before))
        place = next((k for k, cut in enumerate(estimate.cuts) if chances[k] >= cut), len(estimate.cuts))
        return _Proposal(place, chances[0], "difficulty" if estimate.learned is None else "learned")

    def _worth(self, standing: Standing | None, place: int, asked: Asked) -> bool:
        if standing is None:
            return False
        warm = time.monotonic() - standing.at < WARM
        return worth_a_cold_cache(self._model(standing.place), self._model(place), asked, self._prices, warm=warm)

    def _arm(self, place: int, asked: Asked, conversation: str | None, *, fixed: bool) -> tuple[str | None, int]:
        """The arm of the experiment and the tier of that arm; the same for a conversation or prompt every time."""
        if not self.experiment or fixed or self.shadow:
            return None, place
        said = conversation if conversation is not None else asked.text
        digest = blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8, key=b"llm-savings experiment").digest()
        if int.from_bytes(digest, "big") >= self.experiment * 2**64:
            return "routed", place
        strongest = len(self.names) - 1
        other = strongest if place < strongest else strongest - 1
        return (None, place) if self._guards.lacking(other, asked) else ("other", other)

    def _plain(self, name: str, reason: str) -> Decision:
        tier = self.tiers[name]
        return Decision(
            tier=name,
            model=tier.model,
            params=dict(tier.params),
            chosen=name,
            sufficiency=None,
            reasons=(reason,),
            baseline_model=tier.model if reason == "disabled" else self.tiers[self._baseline or self.names[-1]].model,
            shadow=self.shadow,
        )

    def _model(self, place: int) -> str:
        return self.tiers[self.names[place]].model

    def _dearest(self) -> str:
        def price(name: str) -> Decimal:
            return self._prices.price(_EXAMPLE, self.tiers[name].model)

        try:
            dearest = max(reversed(self.names), key=price)
        except SavingsError:
            return self.names[-1]
        if dearest != self.names[-1]:
            _log.warning(
                "The tier %r costs more than the last one, %r, which counts as the strongest: "
                "give tiers from the cheapest to the strongest",
                dearest,
                self.names[-1],
            )
        return dearest


def _default_cuts(count: int) -> tuple[float, ...]:
    """From where on the probability that the cheapest tier suffices is enough for each tier but the strongest."""
    easy, hard = 0.78, 0.55
    return tuple(hard + (easy - hard) * (count - 2 - k) / max(count - 2, 1) for k in range(count - 1))
