"""Misbehaviour on request: what the next requests that match shall suffer."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .spoil import SPOILS
from .wire import JSON, WireError, check_range, check_types

# kind: what happens, and whether it is billed
KINDS = {
    "429": "rate limited before any work, with Retry-After; not billed",
    "500": "an error before any work; not billed",
    "500-after": "an error after the work was done; billed, the answer is lost",
    "stall": "the answer comes `seconds` late; billed when it would have come, also if nobody waits for it any more",
    "stall-unbilled": "nothing comes for `seconds`, then an error 500; not billed",
    "slow": "a stream with `seconds` between its pieces; billed as usual",
    "cut": "the connection closes in the middle of the answer; a stream is billed for what was generated",
    "garbage": "200 with malformed JSON; billed",
    "disconnect": "the connection closes without an answer, before any work; not billed",
    **SPOILS,
}
_ALLOWED = {
    "kind": "string",
    "times": "integer",
    "path": "string",
    "model": "string",
    "probability": "number",
    "retry_after": "number",
    "seconds": "number",
}


@dataclass(slots=True)
class Fault:
    """One wish for trouble.

    Attributes:
        kind: One of `KINDS`.
        times: How many matching requests it still hits; None: all.
        path: Only requests to this path, such as `/v1/messages`.
        model: Only requests naming this model.
        probability: The chance that a matching request is hit.
        retry_after: Seconds for the Retry-After header.
        seconds: How long a stall lasts, or the pause of a slow stream.
    """

    kind: str
    times: int | None = 1
    path: str | None = None
    model: str | None = None
    probability: float = 1.0
    retry_after: float | None = None
    seconds: float = 1.0

    @classmethod
    def from_json(cls, body: JSON) -> Fault:
        """The fault that an admin request describes.

        Raises:
            WireError: A field is unknown or of the wrong type.
        """
        for name in body:
            if name not in _ALLOWED:
                raise WireError(400, f"unknown field {name!r}; known: {', '.join(_ALLOWED)}")
        check_types(body, _ALLOWED)
        if body.get("kind") not in KINDS:
            raise WireError(400, f"unknown fault {body.get('kind')!r}; known: {', '.join(KINDS)}")
        check_range(body, "probability", 0, 1)
        check_range(body, "times", 1, 1e9)
        check_range(body, "seconds", 0, 3600)
        return cls(**body)


class Faults:
    """The faults that are armed, oldest first; a request suffers the first that matches it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Disarm all; the dice start again, so that a run can be repeated."""
        self.armed: list[Fault] = []
        self._dice = random.Random(self._seed)  # noqa: S311 - repeatable trouble, no secret

    def arm(self, fault: Fault) -> None:
        """Add one."""
        self.armed.append(fault)

    def take(self, path: str, model: str | None) -> Fault | None:
        """The fault that this request suffers, which uses it up once."""
        for fault in self.armed:
            if fault.path not in (None, path) or fault.model not in (None, model):
                continue
            if fault.probability < 1 and self._dice.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self.armed.remove(fault)
            return fault
        return None
