"""How often each domain's answers are wrong: the counters of `learning`, kept in the store and in memory."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llm_savings.semantic_cache import learning
from llm_savings.semantic_cache.entries import counters_of
from llm_savings.semantic_cache.learning import Evidence, Threshold
from llm_savings.semantic_cache.match import Language
from llm_savings.semantic_cache.scope import Question
from llm_savings.semantic_cache.stores import Store
from llm_savings.semantic_cache.tally import Tally
from llm_savings.storage.forks import Guarded

_REFRESH = 5.0
_DOMAINS = 1_000
# Lookups, and what a label counts for among them, after which a domain's threshold is worked out again.
_FEW, _LABEL = 60, 3


class Domain(NamedTuple):
    """Where errors are learned together.

    Attributes:
        namespace: Whose questions.
        model: The model asked for.
        digest: Of the first instructions and the rest; see `Question.domain`.
        language: Of the questions.
    """

    namespace: str
    model: str
    digest: str
    language: Language

    @classmethod
    def of(cls, question: Question, language: Language) -> Domain:
        """The domain of a question."""
        return cls(question.namespace, question.model, question.domain, language)

    @property
    def owner(self) -> str:
        """Of the domain's counters."""
        return _PREFIX + json.dumps([self.namespace, self.model, self.digest, self.language])

    @classmethod
    def from_owner(cls, owner: str) -> Domain:
        """The domain that owns these counters."""
        return cls(*json.loads(owner.removeprefix(_PREFIX)))


_PREFIX = "domain:"


@dataclass(slots=True)
class _Known:
    owner: str
    evidence: Evidence
    read_at: float
    fresh: int = 0
    threshold: Threshold | None = None


class Errors(Guarded):
    """What serving costs in wrong answers, by domain, and the threshold that keeps them within the limit.

    Args:
        store: Where the counters are.
        tally: By way of which they are added to.
        max_error: Share of lookups that may be answered wrongly.
        shipped: Gives the threshold that holds where nothing is known, by `max_error` and language.
        tuned: The languages whose threshold the user's own pairs gave; nothing but labels moves it.
        judge_error: Share of right answers that the judge calls wrong.
    """

    def __init__(
        self,
        store: Store,
        tally: Tally,
        *,
        max_error: float,
        shipped: Callable[[float, Language], float],
        tuned: Collection[str] = (),
        judge_error: float = 0.0,
    ) -> None:
        self.max_error, self._shipped, self._tuned, self._judge_error = max_error, shipped, tuned, judge_error
        self.refresh = _REFRESH
        """Seconds after which what other processes have counted is looked at."""
        self._store, self._tally = store, tally
        self._known: OrderedDict[Domain, _Known] = OrderedDict()
        self._once: OrderedDict[Domain, bool] = OrderedDict()  # seen once, which is counted when they come again
        super().__init__()

    def threshold(self, domain: Domain) -> Threshold:
        """From which probability on answers are served now.

        Raises:
            CacheError: The store cannot be read.
        """
        known = self._of(domain)
        if known.threshold is None:
            shipped = self._shipped(self.max_error, domain.language)
            tuned = domain.language in self._tuned
            known.threshold = learning.threshold(
                known.evidence, shipped, self.max_error, tuned=tuned, judge_error=self._judge_error
            )
        return known.threshold

    def domains(self, namespace: str) -> list[Domain]:
        """The domains of a namespace.

        Raises:
            CacheError: The store cannot be read.
        """
        found = [Domain.from_owner(owner) for owner in self._store.owners(_PREFIX)]
        return [domain for domain in found if domain.namespace == namespace]

    def saw(self, domain: Domain, p: float | None, *, served: bool) -> None:
        """A lookup whose best candidate had this probability, or that had none, and whether it was served.

        Of a domain that is seen once nothing is kept: instructions that hold a document or a date come once.
        """
        with self._lock:
            before = self._once.pop(domain, False)
            if p is None and not before and domain not in self._known:
                self._once[domain] = True
                if len(self._once) > _DOMAINS:
                    self._once.popitem(last=False)
                return
        known = self._of(domain)
        for _ in range(before):
            self._tally.add(known.owner, learning.seen(None, False, known.evidence.epoch))
        self._tally.add(known.owner, learning.seen(p, served, known.evidence.epoch))

    def met(self, domain: Domain, shows: Sequence[str]) -> None:
        """What a lookup showed of its domain; see `learning.repeats`."""
        known = self._of(domain)
        if shows:
            self._tally.add(known.owner, {f"{known.evidence.epoch}.{sight}": 1 for sight in shows})
        with self._lock:
            known.fresh += 1

    def learn(self, domain: Domain, p: float, right: bool | None) -> None:
        """A candidate's stored answer was right or wrong, or nobody can tell."""
        known = self._of(domain)
        self._tally.add(known.owner, learning.label(p, right, known.evidence.epoch))
        with self._lock:
            if domain in self._known and right is not None:
                # A wrong answer is a reason to look at once.
                self._known[domain].fresh += _LABEL if right else _FEW

    def blame(self, entry_id: str, right: bool | None) -> None:
        """A would-be hit of this entry was right or wrong, or nobody can tell."""
        if deltas := learning.entry_label(right):
            self._tally.add(counters_of(entry_id), deltas)
            self._tally.flush()

    def suspended(self, entry_id: str, counts: Mapping[str, int] | None) -> bool:
        """Whether an entry was wrong too often to be served to a question that is only similar.

        Args:
            entry_id: The entry's.
            counts: Its counters; None where they are still to be read.

        Raises:
            CacheError: The store cannot be read.
        """
        return learning.suspended(self._store.counts(counters_of(entry_id)) if counts is None else counts)

    def _of(self, domain: Domain) -> _Known:
        now = time.monotonic()
        with self._lock:
            known = self._known.get(domain)
        if known is not None and now - known.read_at < self.refresh and known.fresh < _FEW:
            return known
        if known is not None and known.fresh >= _FEW:
            self._tally.flush()
        owner = domain.owner
        evidence = Evidence.from_counts(self._store.counts(owner))
        with self._lock:
            known = self._known.setdefault(domain, _Known(owner, evidence, now))
            if known.fresh >= _FEW or evidence.all != known.evidence.all:
                known.threshold = None
            known.evidence, known.read_at, known.fresh = evidence, now, 0
            self._known.move_to_end(domain)
            while len(self._known) > _DOMAINS:
                self._known.popitem(last=False)
        return known
