"""How often each domain's answers are wrong: the counters of `learning`, kept in the store and in memory."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from llm_savings.semantic_cache import learning
from llm_savings.semantic_cache.learning import Evidence, Threshold
from llm_savings.semantic_cache.match import threshold_for
from llm_savings.semantic_cache.scope import Question
from llm_savings.semantic_cache.stores import Store
from llm_savings.semantic_cache.tally import Tally

_REFRESH = 5.0  # seconds after which what other processes have counted is looked at
_DOMAINS = 1_000
_FEW = 20  # labels after which a domain's threshold is worked out again


@dataclass(frozen=True, slots=True)
class Domain:
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
    language: str

    @classmethod
    def of(cls, question: Question, language: str) -> Domain:
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
    evidence: Evidence
    read_at: float
    fresh: int = 0
    threshold: Threshold | None = None


class Errors:
    """What serving costs in wrong answers, by domain, and the threshold that keeps them within the limit.

    Args:
        store: Where the counters are.
        tally: By way of which they are added to.
        max_error: Share of lookups that may be answered wrongly.
        audit_rate: Share of hits that are answered by the model, to learn; 0 for none.
        space: The embedder's name.
    """

    def __init__(self, store: Store, tally: Tally, *, max_error: float, audit_rate: float, space: str) -> None:
        self.max_error, self.audit_rate = max_error, audit_rate
        self._store, self._tally, self._space = store, tally, space
        self._known: OrderedDict[Domain, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def threshold(self, domain: Domain) -> Threshold:
        """From which probability on answers are served now.

        Raises:
            CacheError: The store cannot be read.
        """
        known = self._of(domain)
        if known.threshold is None or known.fresh >= _FEW:
            shipped = threshold_for(self.max_error, domain.language, self._space)
            known.threshold = learning.threshold(known.evidence, shipped, self.max_error, previous=known.threshold)
            known.fresh = 0
        return known.threshold

    def audit_chance(self, domain: Domain, p: float) -> float:
        """How likely a hit of this probability should be answered by the model, to learn."""
        return learning.audit_chance(self._of(domain).evidence, p, self.audit_rate)

    def domains(self, namespace: str) -> list[Domain]:
        """The domains of a namespace.

        Raises:
            CacheError: The store cannot be read.
        """
        found = [Domain.from_owner(owner) for owner in self._store.owners(_PREFIX)]
        return [domain for domain in found if domain.namespace == namespace]

    def saw(self, domain: Domain, p: float | None) -> None:
        """A lookup whose best candidate had this probability, or that had none."""
        self._tally.add(domain.owner, learning.seen(p))

    def learn(self, domain: Domain, p: float, right: bool | None) -> None:
        """A candidate's stored answer was right or wrong, or nobody can tell."""
        self._tally.add(domain.owner, learning.label(p, right))
        with self._lock:
            if domain in self._known and right is not None:
                # A wrong answer is a reason to look at once.
                self._known[domain].fresh += 1 if right else _FEW

    def _of(self, domain: Domain) -> _Known:
        now = time.monotonic()
        with self._lock:
            known = self._known.get(domain)
        if known is not None and now - known.read_at < _REFRESH and known.fresh < _FEW:
            return known
        if known is not None and known.fresh >= _FEW:
            self._tally.flush()
        evidence = Evidence.from_counts(self._store.counts(domain.owner))
        with self._lock:
            known = self._known.setdefault(domain, _Known(evidence, now))
            if evidence.labels != known.evidence.labels:
                known.fresh = _FEW
            known.evidence, known.read_at = evidence, now
            self._known.move_to_end(domain)
            while len(self._known) > _DOMAINS:
                self._known.popitem(last=False)
        return known
