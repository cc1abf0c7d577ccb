"""Which of the billed requests that nobody claims were which of the calls whose end nobody knows.

A call and a bill's row go together when their model, time and price allow it. A pair is certain when a row has one
call left that it can be. Where several calls and rows could change places, they are paired by time if it makes no
difference to anybody's sum: the rows cost the same, or the calls have one user, tenant and tags. Else they are left.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from llm_savings.ledger import Call
from llm_savings.reconcile.names import plain, same
from llm_savings.reconcile.readers import Billed

SKEW = timedelta(seconds=2)
"""How far the clocks of a provider and its client may be apart."""


@dataclass(slots=True)
class Pairs:
    """The outcome, as positions in the two lists.

    Attributes:
        certain: Call -> row, where there is no other possibility.
        chosen: Call -> row, where others like them could change places with them.
        ambiguous: Calls that could be one of several rows at different prices.
        rest: Calls for which no row is left; True where others like them got the rows.
    """

    certain: dict[int, int] = field(default_factory=dict[int, int])
    chosen: dict[int, int] = field(default_factory=dict[int, int])
    ambiguous: set[int] = field(default_factory=set[int])
    rest: dict[int, bool] = field(default_factory=dict[int, bool])


def horizon(call: Call, window: timedelta) -> datetime:
    """Until when a call may have been billed: it was billed while it lasted, or within the window."""
    lasted = timedelta(seconds=(call.settled and call.settled.latency) or 0)
    return call.sent.started_at + max(window, lasted + SKEW)


def pair(calls: Sequence[Call], rows: Sequence[Billed], window: timedelta) -> Pairs:
    """Pair unknown calls with billed requests, never two with one.

    Args:
        calls: Calls that may be among the rows.
        rows: Requests that no other call accounts for.
        window: How long after a call began it may be billed.
    """
    options = _options(calls, rows, window)
    takers: dict[int, set[int]] = {}
    for i, found in options.items():
        for j in found:
            takers.setdefault(j, set()).add(i)
    pairs = Pairs()
    open_rows = set(takers)
    while sole := _sole(takers, open_rows):
        for i, j in sole.items():
            pairs.certain[i] = j
            open_rows.discard(j)
            for other in options.pop(i) - {j}:
                takers[other].discard(i)
    open_rows = {j for j in open_rows if takers[j]}
    for group, ours in _groups(options, takers, open_rows):
        _settle_group(pairs, {i: calls[i] for i in group}, {j: rows[j] for j in ours}, takers)
    pairs.rest |= {i: False for i in range(len(calls)) if i not in pairs.certain and not options.get(i)}
    return pairs


def _options(calls: Sequence[Call], rows: Sequence[Billed], window: timedelta) -> dict[int, set[int]]:
    named: dict[str, list[tuple[datetime, int]]] = {}
    for j in sorted(range(len(rows)), key=lambda j: rows[j].at):
        named.setdefault(plain(rows[j].model), []).append((rows[j].at, j))
    options: dict[int, set[int]] = {}
    for i, call in enumerate(calls):
        begin, end, bound = call.sent.started_at - SKEW, horizon(call, window), call.sent.bound
        asked = {plain(name) for name in (call.sent.requested_model, call.settled and call.settled.model) if name}
        options[i] = {
            j
            for model, places in named.items()
            if any(same(model, name) for name in asked)
            for _, j in places[bisect_left(places, (begin, 0)) : bisect_right(places, (end, len(rows)))]
            if bound is None or rows[j].usd <= bound
        }
    return options


def _sole(takers: dict[int, set[int]], rows: set[int]) -> dict[int, int]:
    """Calls that are the only possibility of exactly one row."""
    found: dict[int, list[int]] = {}
    for j in rows:
        if len(takers[j]) == 1:
            found.setdefault(next(iter(takers[j])), []).append(j)
    return {i: only[0] for i, only in found.items() if len(only) == 1}


def _groups(
    options: dict[int, set[int]], takers: dict[int, set[int]], rows: set[int]
) -> list[tuple[set[int], set[int]]]:
    """Calls and rows that hang together."""
    groups: list[tuple[set[int], set[int]]] = []
    left = set(rows)
    while left:
        ours, theirs, edge = {next(iter(left))}, set[int](), set[int]()
        edge |= ours
        while edge:
            calls = {i for j in edge for i in takers[j]} - theirs
            theirs |= calls
            edge = {j for i in calls for j in options[i]} - ours
            ours |= edge
        left -= ours
        groups.append((theirs, ours))
    return groups


def _settle_group(
    pairs: Pairs, calls: dict[int, Call], rows: dict[int, Billed], takers: Mapping[int, set[int]]
) -> None:
    alike = len({(row.usd, row.usage, row.mode) for row in rows.values()}) == 1
    if not alike and len({_labels(call) for call in calls.values()}) > 1:
        pairs.ambiguous |= calls.keys()
        return
    found = _most(
        {
            j: sorted(takers[j], key=lambda i: abs(calls[i].sent.started_at - rows[j].at))
            for j in sorted(rows, key=lambda j: rows[j].at)
        }
    )
    if not alike and len(found) < len(rows):  # somebody else's row is among them, and nobody knows which
        pairs.ambiguous |= calls.keys()
        return
    target = pairs.certain if alike and len(found) == len(calls) else pairs.chosen
    target.update(found)
    pairs.rest |= dict.fromkeys(calls.keys() - found.keys(), True)


def _most(wishes: Mapping[int, list[int]]) -> dict[int, int]:
    """Call -> row for as many rows as possible: each takes its first wish, and others move over where they can.

    Augmenting paths, found breadth first (C. Berge, Two theorems in graph theory, 1957).
    """
    taken: dict[int, int] = {}
    has: dict[int, int] = {}
    for start in wishes:
        came: dict[int, int] = {}
        queue = deque([start])
        end: int | None = None
        while queue and end is None:
            j = queue.popleft()
            for i in wishes[j]:
                if i not in came:
                    came[i] = j
                    if i not in taken:
                        end = i
                        break
                    queue.append(taken[i])
        while end is not None:
            j = came[end]
            before = has.get(j)
            taken[end], has[j], end = j, end, before
    return taken


def _labels(call: Call) -> tuple[object, ...]:
    """Who pays: calls that differ in these are not exchanged for each other at different prices."""
    return call.sent.user, call.sent.tenant, tuple(sorted(call.sent.tags.items()))
