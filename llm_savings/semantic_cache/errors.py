"""How often each domain's answers are wrong: the counters of `learning`, kept in the store and in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from llm_savings.semantic_cache import learning
from llm_savings.semantic_cache.learning import Evidence, Threshold
from llm_savings.semantic_cache.match import threshold_for
from llm_savings.semantic_cache.stores import Store
from llm_savings.semantic_cache.tally import Tally

_REFRESH = 5.0  # seconds after which what other processes have counted is looked at
_DOMAINS = 1_000
_FEW = 20  # labels after which a domain's threshold is worked out again


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
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def threshold(self, domain: str, language: str) -> Threshold:
        """From which probability on answers are served now.

        Raises:
            CacheError: The store cannot be read.
        """
        known = self._of(domain)
        found = known.threshold
        if found is None or known.fresh >= _FEW:
            shipped = threshold_for(self.max_error, language, self._space)
            found = learning.threshold(known.evidence, shipped, self.max_error, previous=found)
            known.threshold, known.fresh = found, 0
        return found

    def audit_chance(self, domain: str, p: float) -> float:
        """How likely a hit of this probability should be answered by the model, to learn."""
        return learning.audit_chance(self._of(domain).evidence, p, self.audit_rate)

    def known(self) -> dict[str, Threshold]:
        """The thresholds in use, by domain."""
        with self._lock:
            return {domain: known.threshold for domain, known in self._known.items() if known.threshold is not None}

    def saw(self, domain: str, p: float | None) -> None:
        """A lookup whose best candidate had this probability, or that had none."""
        self._tally.add(_owner(domain), learning.seen(p))

    def learn(self, domain: str, p: float, right: bool | None) -> None:
        """A candidate's stored answer was right or wrong, or nobody can tell."""
        self._tally.add(_owner(domain), learning.label(p, right))
        with self._lock:
            if domain in self._known:
                # A wrong answer is a reason to look at once.
                self._known[domain].fresh += _FEW if right is False else 1

    def _of(self, domain: str) -> _Known:
        now = time.monotonic()
        with self._lock:
            known = self._known.get(domain)
            if known is not None and now - known.read_at < _REFRESH and known.fresh < _FEW:
                return known
        if known is not None and known.fresh >= _FEW:
            self._tally.flush()
        evidence = Evidence.from_counts(self._store.counts(_owner(domain)))
        with self._lock:
            if known is None:
                known = _Known(evidence, now)
            known.fresh = _FEW if evidence.labels != known.evidence.labels else known.fresh
            known.evidence, known.read_at = evidence, now
            self._known[domain] = known
            self._known.move_to_end(domain)
            while len(self._known) > _DOMAINS:
                self._known.popitem(last=False)
            return known


def _owner(domain: str) -> str:
    return f"domain:{domain}"
