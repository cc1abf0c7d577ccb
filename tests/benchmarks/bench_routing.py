"""How well requests are told apart, with nothing learned and after `fit`, what `calibrate` keeps, and how fast it is.

    python tests/benchmarks/bench_routing.py [--quick]

APGR is the area under RouteLLM's curve (Ong and others, 2024): send the share x of the requests for which a router
asks most for the strong model to that model, the rest to the weak one, and see which part of the gap between the two
models' mean quality is recovered; take the mean over x from 0 to 1. A coin gets 0.5, and prompts are in random order
where a router says the same of both.

- Zero-shot: for each data set, the difficulty model is built from the other ones alone (prompts that the data set
  shares with another are taken out of that one, too) and asked for this one. "extreme": the weakest against the
  strongest model of the data set. "pairs": the mean over all pairs of models whose mean quality is 0.08 apart or more.
- Fitted: `fit` on four fifths and APGR on the fifth left out, where the shipped difficulty model, which has seen other
  rows of the same data set, is replaced by the one built without that data set.
- Calibrated: `fit` and `calibrate(max_loss=0.05)` on one part and the loss that is then found on the rest.

Data: RouteLLM's MMLU and GSM8K, LLMRouter, ZeroEval (../shared/data/routing); tests/unit/routing_prompts.tsv.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]
from build_difficulty import DATA, fitted, own_prompts, prepared, read_rows  # noqa: E402

from llm_savings.routing import ComplexityRouter  # noqa: E402
from llm_savings.routing import fitting as fitting_module  # noqa: E402
from llm_savings.routing import places as places_module  # noqa: E402
from llm_savings.routing.article import article_class  # noqa: E402
from llm_savings.routing.calibration import recovered  # noqa: E402
from llm_savings.routing.difficulty import Difficulty  # noqa: E402
from llm_savings.routing.requests import bounded  # noqa: E402

PAIR = {"simple": "gpt-4o-mini", "complex": "gpt-4-1106-preview"}  # priced much as Mixtral and GPT-4-1106 were


class Sets:
    """The data sets, and for each the difficulty model that was built without it."""

    def __init__(self, raw: list[dict[str, Any]]) -> None:
        self.raw, self.rows = raw, prepared(raw)
        self.names = list(dict.fromkeys(self.rows.names))
        self.of = {name: np.flatnonzero(self.rows.names == name) for name in self.names}
        own = own_prompts("tune")
        self.without: dict[str, Difficulty] = {}
        for name in self.names:
            inside = self.rows.names == name
            shared = np.isin(self.rows.keys, self.rows.keys[inside])
            self.without[name] = fitted(self.rows.take(~inside & ~shared), own)

    def prompts(self, name: str) -> list[str]:
        return [self.raw[row]["prompt"] for row in self.of[name]]

    def scores(self, name: str) -> np.ndarray:
        """Prompts x models, from the weakest model to the strongest."""
        models = sorted(self.raw[self.of[name][0]]["scores"])
        scores = np.array([[self.raw[row]["scores"][model] for model in models] for row in self.of[name]])
        return scores[:, np.argsort(scores.mean(0), kind="stable")]


def both(order: Any, scores: np.ndarray) -> tuple[float, float]:
    """APGR of the weakest against the strongest model, and over all pairs."""
    order = np.asarray(order, float)
    shuffled = np.random.default_rng(0).permutation(len(order))
    order, scores = order[shuffled], scores[shuffled]
    mean = scores.mean(0)
    every = [
        recovered(order, scores[:, weak], scores[:, strong])
        for weak in range(len(mean))
        for strong in range(weak + 1, len(mean))
        if mean[strong] - mean[weak] >= 0.08
    ]
    return recovered(order, scores[:, 0], scores[:, -1]), float(np.mean(every))


def litellm_routers() -> dict[str, Any]:
    """LiteLLM's own complexity routers: prompt -> how much it asks for a strong model."""
    from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter as Theirs

    def made(**config: Any) -> Any:
        tiers = {"SIMPLE": "a", "MEDIUM": "b", "COMPLEX": "c", "REASONING": "d"}
        return Theirs("auto", SimpleNamespace(model_list=[]), {"tiers": tiers, **config}, derive_savings_baseline=False)  # type: ignore[arg-type]

    found: dict[str, Any] = {}
    first = made()
    found["LiteLLM v1"] = lambda prompt: first.classify(prompt)[1]
    second = made(classifier_type="heuristic_v2")
    severity = {"SIMPLE": 0, "MEDIUM": 1, "COMPLEX": 2, "REASONING": 3}

    def v2(prompt: str) -> float:
        outcome = second._classify_with_heuristic_v2(prompt)
        lowest = outcome.heuristic_v2_forecast["probabilities"]["SIMPLE"]
        return severity[getattr(outcome.tier, "value", outcome.tier)] - lowest

    v2("hello")
    found["LiteLLM v2"] = v2
    return found


def zero_shot(sets: Sets, peers: dict[str, Any]) -> None:
    print("\nZero-shot APGR, each data set left out of what the model was built from: extreme pair (all pairs)")
    classes = {"simple": 0, "medium": 1, "complex": 2}
    dice = random.Random(0)
    methods: dict[str, Any] = {
        "ours": None,
        **peers,
        "prompt length": len,
        "the article's rules": lambda prompt: classes[article_class(prompt)],
        "random": lambda _: dice.random(),
    }
    print(f"  {'':20}" + "".join(f"{name:>16}" for name in (*sets.names, "mean", "lowest")))
    for method, score in methods.items():
        values: list[tuple[float, float]] = []
        for name in sets.names:
            model = sets.without[name]
            said = [model.raw(bounded(p)) if score is None else score(p) for p in sets.prompts(name)]
            values.append(both(said, sets.scores(name)))
        columns = np.array(values)
        shown = [*values, tuple(columns.mean(0)), tuple(columns.min(0))]
        print(f"  {method:20}" + "".join(f"{f'{a:.3f} ({b:.3f})':>16}" for a, b in shown), flush=True)


def honest(sets: Sets, name: str) -> Any:
    """For the time of a fit: the difficulty model built without this data set, instead of the shipped one."""
    return mock.patch.object(places_module, "Difficulty", SimpleNamespace(load=lambda: sets.without[name]))


def learned(sets: Sets, quick: bool) -> None:
    print("\nFitted APGR on prompts not learned from")
    for name, labels, repeats in (
        ("gsm8k", None, 1),
        ("gsm8k", 747, 10),
        ("mmlu", 1500, 2 if quick else 4),
        ("mmlu", None, 1),
    ):
        if quick and name == "mmlu" and labels is None:
            continue
        prompts, scores = sets.prompts(name), sets.scores(name)[:, [0, -1]]
        values: list[float] = []
        with honest(sets, name):
            for seed in range(repeats):
                order = np.random.default_rng(seed).permutation(len(prompts))
                inside = order[:labels] if labels else order
                rows = [fitting_module.Example(prompts[k], tuple(scores[k])) for k in inside]
                model = fitting_module.learn(rows)
                asked = order[labels:] if labels else order  # of these each was held out of one fold
                quality = np.array([model.quality(prompts[k], unseen=True) for k in asked])
                values.append(recovered(quality[:, 1] - quality[:, 0], scores[asked, 0], scores[asked, 1]))
        how = f"{labels} labels, {repeats} splits" if labels else "5-fold"
        print(f"  {name:8} {how:24} {np.mean(values):.3f}", flush=True)


def calibrated(sets: Sets, quick: bool) -> None:
    print("\nfit and calibrate(max_loss=0.05), then found on the rest: mean over splits")
    for name, size, repeats in (("gsm8k", 600, 10), ("mmlu", 4000 if quick else 6000, 2 if quick else 3)):
        prompts, scores = sets.prompts(name), sets.scores(name)[:, [0, -1]]
        rows: list[tuple[float, ...]] = []
        for seed in range(repeats):
            order = np.random.default_rng(100 + seed).permutation(len(prompts))
            judged = [{"simple": scores[k, 0], "complex": scores[k, 1]} for k in order[:size]]
            asked = [prompts[k] for k in order[:size]]
            with honest(sets, name):
                router = ComplexityRouter(PAIR).fit(asked, judged)
                found = router.calibrate(asked, judged, max_loss=0.05)
                sent = np.array([router.names.index(router.route(prompts[k]).tier) for k in order[size:]])
            quality = scores[order[size:]]
            real = 1 - quality[np.arange(len(sent)), sent].mean() / quality[:, 1].mean()
            low, high = found.loss_bounds or (0.0, 0.0)
            # The rest is a sample, too: its loss strays around the truth, and so does the interval's centre.
            stray = (
                np.std(quality[:, 1] - quality[np.arange(len(sent)), sent]) / len(sent) ** 0.5 / quality[:, 1].mean()
            )
            wide = np.hypot((high - low) / 2, 1.96 * stray)
            above = real - 1.645 * stray > 0.05
            covered = abs(real - (low + high) / 2) <= wide
            rows.append((found.loss or 0.0, real, found.saving or 0.0, covered, above))
        expected, real, saving, covered, above = np.array(rows, float).T
        print(
            f"  {name:8} {repeats} splits of {size}: expected loss {expected.mean():.2%}, real {real.mean():.2%} "
            f"(at most {real.max():.2%}), cost saved {saving.mean():.1%}, interval covers it in {covered.mean():.0%}, "
            f"measurably above 5% in {above.mean():.0%}",
            flush=True,
        )


def own() -> None:
    router = ComplexityRouter(PAIR)
    print("\nThe project's own prompts, two tiers: share sent where they belong (medium: share sent to complex)")
    for part in ("tune", "kept"):
        for language in ("en", "ko"):
            rows = [row for row in own_prompts(part) if row["language"] == language]
            said = [f"  {part} {language}"]
            for tier in ("simple", "complex", "medium"):
                sent = [router.route(row["text"]).tier for row in rows if row["tier"] == tier]
                right = sent.count("complex" if tier == "medium" else tier) / len(sent)
                said.append(f"{tier} {right:6.1%} of {len(sent):2}")
            print("   ".join(said))


def speed(sets: Sets, peers: dict[str, Any]) -> None:
    print("\nOne decision, microseconds of processor time (this machine, this run)")
    router = ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"})
    sample = random.Random(0).sample([row["prompt"] for row in sets.raw], 1500)
    korean = [row["text"] for row in own_prompts("tune") if row["language"] == "ko"]
    long = ("Explain how the orbit of a planet is derived, and why. " * 700)[:32_000]
    router.route("warm up")
    taught = random.Random(1).sample([row for row in sets.raw if row["dataset"] == "mmlu"], 3000)
    judged = [dict(zip(PAIR, sorted(row["scores"].values()), strict=True)) for row in taught]
    fitted_router = ComplexityRouter(PAIR).fit([row["prompt"] for row in taught], judged)
    fitted_router.route("warm up")
    print(f"  {'':22}{'p50':>8}{'p99':>8}{'Korean p50':>12}{'32,000 chars':>14}")
    for name, decide in (("ours", router.route), ("ours, fitted", fitted_router.route), *peers.items()):
        taken = [[_taken(decide, p) for p in part] for part in (sample, korean, [long] * 15)]
        print(
            f"  {name:22}{np.quantile(taken[0], 0.5):8.0f}{np.quantile(taken[0], 0.99):8.0f}"
            f"{np.median(taken[1]):12.0f}{np.median(taken[2]):14.0f}",
            flush=True,
        )


def _taken(decide: Any, prompt: str) -> float:
    before = time.thread_time_ns()
    decide(prompt)
    return (time.thread_time_ns() - before) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Fewer splits, and not all of MMLU.")
    options = parser.parse_args()
    own()
    if not DATA.is_file():
        print(f"skipped: no data at {DATA}")
        return
    asyncio.set_event_loop(asyncio.new_event_loop())  # LiteLLM's router looks for one when it is made
    sets, peers = Sets(read_rows(DATA)), litellm_routers()
    speed(sets, peers)
    zero_shot(sets, peers)
    learned(sets, options.quick)
    calibrated(sets, options.quick)


if __name__ == "__main__":
    main()
