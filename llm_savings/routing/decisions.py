"""`Decision`: where a request goes, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where a request goes. A host sends it to `model` with `params`, whatever else is said here.

    Attributes:
        tier: The tier's name.
        model: The name of the tier's model.
        params: The tier's parameters, for the call; what the caller set himself comes first.
        chosen: The tier that the router chose. Another one than `tier` where it only watches (`shadow`) or where the
            request takes part in an experiment (`arm`).
        chosen_model: The name of that tier's model.
        sufficiency: Probability that the cheapest tier answers as well as the strongest, or None where nothing was
            estimated (a rule, a failure).
        reasons: Why, as short codes such as "difficulty" or "rule:0".
        guards: What kept cheaper or other tiers out, such as "vision"; empty if nothing did.
        baseline_model: The model that would have been paid for without routing.
        shadow: Nothing was changed: the request goes to the baseline's tier.
        arm: "routed" or "other" in an experiment, else None.
        escalated: It was sent to a stronger tier than its difficulty asks for.
        refused: Stronger tiers whose models do not take this request.
    """

    tier: str
    model: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    chosen: str
    chosen_model: str = ""
    sufficiency: float | None
    reasons: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    baseline_model: str
    shadow: bool = False
    arm: str | None = None
    escalated: bool = False
    refused: tuple[str, ...] = ()

    def evidence(self) -> dict[str, Any]:
        """What the ledger keeps, in plain JSON values: `noted(metadata, "routing", decision.evidence())`."""
        said: dict[str, Any] = {
            "tier": self.tier,
            "chosen": self.chosen,
            "probability": None if self.sufficiency is None else round(self.sufficiency, 4),
            "baseline_model": self.baseline_model,
            "reasons": list(self.reasons),
        }
        if self.guards:
            said["guards"] = list(self.guards)
        if self.arm is not None:
            said["arm"] = self.arm
        if self.shadow:
            said |= {"shadow": True, "chosen_model": self.chosen_model}
        return said
