"""Learning from judged prompts, thresholds with a bound on the loss, one file, drift, and what an experiment says."""

from __future__ import annotations

import csv
import json
import math
import random
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings.cli import main
from llm_savings.errors import ConfigError
from llm_savings.ledger import Call, Ledger, Sent, Settled
from llm_savings.pricing import PriceBook
from llm_savings.routing import ComplexityRouter, Rule, Tier
from llm_savings.routing.calibration import chosen_places, for_loss, for_share, logistic, loss_bounds, recovered
from llm_savings.routing.difficulty import Difficulty
from llm_savings.routing.trial import compare

PAIR = {"simple": "gpt-4o-mini", "complex": "gpt-4o"}
OWN = Path(__file__).with_name("routing_prompts.tsv")
EASY = ["colour", "capital", "greeting", "weather", "name", "currency"]
TOUGH = ["theorem", "contract", "kernel", "orbit", "enzyme", "proof"]


def made_up(count: int, seed: int = 0) -> tuple[list[str], list[dict[str, float]]]:
    """Prompts on easy and tough subjects: the small model fails on half of the tough ones, the large one on 5%."""
    dice = random.Random(seed)
    prompts, scores = [], []
    for number in range(count):
        tough = dice.random() < 0.5
        subjects = dice.sample(TOUGH if tough else EASY, 2)
        prompts.append(f"question {number} about the {subjects[0]} and the {subjects[1]}")
        small = dice.random() > (0.5 if tough else 0.05)
        scores.append({"simple": float(small), "complex": float(dice.random() > 0.05)})
    return prompts, scores


def easy(prompt: str) -> bool:
    return not any(subject in prompt for subject in TOUGH)


def tiers_of(router: ComplexityRouter, prompts: Sequence[str]) -> list[str]:
    return [router.route(prompt).tier for prompt in prompts]


@pytest.fixture(scope="module")
def taught() -> ComplexityRouter:
    router = ComplexityRouter(PAIR).fit(*made_up(600))
    router.calibrate(*made_up(600), max_loss=0.05)
    return router


def test_a_fitted_router_finds_what_the_small_model_fails_on(taught: ComplexityRouter) -> None:
    prompts, scores = made_up(400, seed=1)
    hits = [(tier == "simple") == easy(prompt) for tier, prompt in zip(tiers_of(taught, prompts), prompts, strict=True)]
    assert np.mean(hits) > 0.85  # what the allowed loss buys is sent to the small model, tough or not
    assert taught.route(prompts[0]).reasons == ("learned",)
    routed = np.mean([score[tier] for score, tier in zip(scores, tiers_of(taught, prompts), strict=True)])
    assert routed > 0.93 * np.mean([score["complex"] for score in scores])


def test_a_calibration_says_what_to_expect() -> None:
    prompts, scores = made_up(800, seed=2)
    router = ComplexityRouter(PAIR).fit(prompts, scores)
    found = router.calibrate(prompts, scores, max_loss=0.05)
    assert found.routable
    assert len(found.warnings) == 1 and found.warnings[0].startswith("800 judged prompts are few: the loss may be 2.")
    assert found.loss is not None and found.loss_bounds is not None and found.saving is not None
    assert found.loss_bounds[0] < found.loss <= 0.05
    assert found.loss_bounds[1] < 0.08
    assert found.saving == pytest.approx(found.share["simple"] * (1 - 0.06), abs=0.01)
    others = made_up(800, seed=3)[0]
    more_easy = np.mean([easy(prompt) for prompt in others]) - np.mean([easy(prompt) for prompt in prompts])
    simple = tiers_of(router, others).count("simple") / 800
    assert simple == pytest.approx(found.share["simple"] + more_easy, abs=0.05)


def test_calibrating_on_the_prompts_learned_from_is_not_fooled() -> None:
    # Scores that no prompt explains: a model judged on what it has learned by heart would see an order in them.
    dice = random.Random(4)
    prompts = [f"{dice.choice(EASY)} {dice.choice(TOUGH)} number {n} {dice.random()}" for n in range(600)]
    scores = [{"simple": float(dice.random() > 0.4), "complex": float(dice.random() > 0.1)} for _ in prompts]
    found = ComplexityRouter(PAIR).fit(prompts, scores).calibrate(prompts, scores, max_loss=0.05)
    assert not found.routable
    assert "unroutable" in " ".join(found.warnings)
    assert found.order is not None and abs(found.order - 0.5) < 0.08


def test_a_small_model_that_is_mostly_worse_is_routed_by_what_tells_its_prompts_apart() -> None:
    prompts = [f"{'짧은' if n % 3 else '아주 긴 설명이 필요한'} 질문 {n}" for n in range(300)]
    preferred = ["complex" if n % 3 else "tie" for n in range(300)]  # always at least a third better
    router = ComplexityRouter(PAIR).fit(prompts, preferred=preferred)
    found = router.calibrate(prompts, [{"simple": float(p == "tie"), "complex": 1.0} for p in preferred], max_loss=0.05)
    assert found.routable and found.share["simple"] == pytest.approx(1 / 3, abs=0.05)
    assert found.saving is not None and found.saving > 0.25
    tiers_of(router, prompts)
    assert not router.report_drift().drifted


@given(mean=st.floats(-8, 8), slope=st.floats(0.2, 10), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_probability_over_a_score_is_right_on_average(mean: float, slope: float, share: float, seed: int) -> None:
    dice = np.random.default_rng(seed)
    score = dice.normal(mean, 1, 200)
    odds = slope * (score - mean) + np.log(share / (1 - share))
    label = (dice.random(200) < 1 / (1 + np.exp(-odds))).astype(float)
    found_slope, shift = logistic(score, label)
    chance = 1 / (1 + np.exp(-(found_slope * score + shift)))
    assert found_slope > 0 and chance.mean() == pytest.approx(label.mean(), abs=0.02)


def test_a_strong_model_that_is_no_better_is_said_to_be_none() -> None:
    prompts, _ = made_up(300)
    same = [{"simple": 0.5, "complex": 0.5}] * 300
    found = ComplexityRouter(PAIR).calibrate(prompts, same, max_loss=0.05)
    assert "not measurably better" in found.warnings[0]
    assert found.share["simple"] == 1


def test_no_loss_that_nobody_allowed() -> None:
    # The small model is never right: nothing may go to it.
    prompts, _ = made_up(200)
    found = ComplexityRouter(PAIR).calibrate(prompts, [{"simple": 0.0, "complex": 1.0}] * 200, max_loss=0.01)
    assert found.share["complex"] > 0.99


def test_shares_need_no_judgement() -> None:
    router = ComplexityRouter({"a": "gpt-4o-mini", "b": "gpt-4.1", "c": "gpt-4o"})
    prompts = [f"{'please ' * (n % 37)}explain topic {n} {'and why' * (n % 5)}" for n in range(300)]
    found = router.calibrate(prompts, share={"c": 0.2})
    assert found.share == pytest.approx({"a": 0.4, "b": 0.4, "c": 0.2}, abs=0.03)
    assert tiers_of(router, prompts).count("c") / 300 == pytest.approx(0.2, abs=0.03)
    assert found.loss is None


def test_nothing_is_saved_where_the_strongest_tier_is_free() -> None:
    prices = PriceBook().with_overrides({"mine": {"input": 0, "output": 0}})
    router = ComplexityRouter({"a": "gpt-4o-mini", "b": "mine"}, prices=prices)
    found = router.calibrate([f"explain topic {n} {'and why ' * (n % 9)}" for n in range(60)], share={"b": 0.5})
    assert found.saving is None


def test_few_labels_leave_the_shipped_difficulty_in_charge() -> None:
    dice = random.Random(8)
    asked = [row["text"] for row in csv.DictReader(OWN.open(encoding="utf-8"), delimiter="\t")]
    fresh, labelled = asked[::2], dice.sample(asked[1::2], 40)
    shipped = np.array([Difficulty.load().raw(prompt) for prompt in asked])
    middle = float(np.median(shipped))
    scores = [{"simple": float(Difficulty.load().raw(p) < middle), "complex": 1.0} for p in labelled]
    before = [ComplexityRouter(PAIR).route(prompt).sufficiency or 0.0 for prompt in fresh]
    learned = ComplexityRouter(PAIR).fit(labelled, scores)
    after = [learned.route(prompt).sufficiency or 0.0 for prompt in fresh]
    assert float(np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1]) > 0.6


@pytest.mark.parametrize("prompts", [[f"파이썬 질문 {n}" for n in range(60)], ["the same"] * 60, ["", "?"] * 30])
def test_constant_labels_and_prompts_that_tell_nothing_are_learned_without_harm(prompts: list[str]) -> None:
    router = ComplexityRouter(PAIR).fit(prompts, [{"simple": 0.5, "complex": 1.0}] * 60)
    said = [router.route(prompt).sufficiency for prompt in (*prompts[:3], "", "x" * 1_000_000, "\ud800 \x00 양자")]
    assert said == pytest.approx([said[0]] * len(said))


def test_numbers_on_the_page_are_told_from_words() -> None:
    dice = random.Random(9)

    def asked(numbers: bool) -> str:
        lines = [str(dice.randrange(10**6)) if numbers else dice.choice(EASY + TOUGH) for _ in range(4)]
        return "\n".join([f"Which {dice.choice(TOUGH)} fits the {dice.choice(EASY)}?", *lines, "Answer:"])

    kinds = [dice.random() < 0.5 for _ in range(300)]
    router = ComplexityRouter(PAIR).fit(
        [asked(kind) for kind in kinds], [{"simple": float(kind), "complex": 1.0} for kind in kinds]
    )
    numbers, words = ([router.route(asked(kind)).sufficiency or 0.0 for _ in range(20)] for kind in (True, False))
    assert min(numbers) > max(words) + 0.3


def test_thumbs_and_preferences_teach_too() -> None:
    prompts, scores = made_up(900, seed=5)
    dice = random.Random(6)
    thumbs = [{(tier := dice.choice(["simple", "complex"])): score[tier]} for score in scores]
    by_thumbs = ComplexityRouter(PAIR).fit(prompts, thumbs)
    preferred = [
        "tie" if score["simple"] == score["complex"] else "simple" if score["simple"] else "complex" for score in scores
    ]
    by_pairs = ComplexityRouter(PAIR).fit(prompts, preferred=preferred)
    for router in (by_thumbs, by_pairs):
        for asked, apart in (("question 950 about the {} and the {}", 0.2), ("about the {} and the {}", 0.1)):
            mild, tough = (router.route(asked.format(*pair)).sufficiency for pair in (EASY[:2], TOUGH[:2]))
            assert mild is not None and tough is not None and mild > tough + apart


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"scores": [{"simple": 1, "complex": 1}]}, "1 for 40 prompts"),
        ({"scores": [{"medium": 1}] * 40}, "'medium' is no tier"),
        ({"scores": [{"simple": 2}] * 40}, r"scores\[0\]\['simple'\]=2"),
        ({"scores": [{"simple": math.nan, "complex": 1}] * 40}, "=nan"),
        ({"scores": [{"simple": 1, "complex": math.inf}] * 40}, "=inf"),
        ({"scores": [{"simple": 1}] * 40}, "0 judged answers"),
        ({"preferred": ["first"] * 40}, "preferred"),
        ({}, "one of the two"),
    ],
)
def test_data_that_cannot_be_learned_from(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ComplexityRouter(PAIR).fit(["x"] * 40, **wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "one of the two"),
        ({"max_loss": 0.05, "share": {"complex": 0.2}}, "one of the two"),
        ({"max_loss": 0.05}, "scores"),
        ({"share": {"big": 0.2}}, r"share\['big'\]"),
        ({"share": {"simple": 0.5, "complex": 0.2}}, "add up"),
    ],
)
def test_calibrations_that_cannot_be(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ComplexityRouter(PAIR).calibrate(["x"] * 40, **wrong)


def test_the_interval_covers_the_truth() -> None:
    dice = np.random.default_rng(0)
    for rate, size in ((0.02, 60), (0.1, 200), (0.0, 50)):
        inside = 0
        for _ in range(400):
            strong = (dice.random(size) < 0.9).astype(float)
            routed = np.where(dice.random(size) < rate, 0.0, strong)
            low, high = loss_bounds(routed, strong)
            inside += low <= rate <= high
        assert inside / 400 >= 0.93


def test_the_allowed_loss_is_kept_with_the_confidence_asked_for() -> None:
    dice = np.random.default_rng(1)
    broken = 0
    for _ in range(200):
        chance = dice.random((400, 1))
        quality = np.c_[(dice.random(400) < 0.6 + 0.3 * chance[:, 0]), np.ones(400)].astype(float)
        cuts = for_loss(chance, quality, 0.1, 0.9)
        # In truth: of all requests with a chance above the cut, 1 - 0.6 - 0.3 * chance are lost.
        cut = min(cuts[0], 1.0)
        broken += (0.4 * (1 - cut) - 0.15 * (1 - cut**2)) > 0.1
    assert broken / 200 <= 0.13


def test_small_laws() -> None:
    chances = np.array([[0.9, 0.95], [0.2, 0.9], [0.1, 0.2]])
    assert chosen_places(chances, (0.5, 0.5)).tolist() == [0, 1, 2]
    assert for_share(np.array([[0.1], [0.9], [0.5], [0.3]]), {"a": 0.5}, ("a", "b")) == (pytest.approx(0.4),)
    ones, zeros = np.ones(4), np.zeros(4)
    assert recovered(np.arange(4.0), zeros, ones) == pytest.approx(0.5)
    assert recovered(np.arange(4.0), np.array([1.0, 1, 1, 0]), ones) == pytest.approx(0.875)
    assert recovered(np.arange(4.0), ones, ones) == 0.5


def test_one_file_keeps_it_all(taught: ComplexityRouter, tmp_path: Path) -> None:
    path = tmp_path / "router.npz"
    taught.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"theorem" not in path.read_bytes()
    prompts, scores = made_up(600)
    again = ComplexityRouter.load(path)
    before, after = ([router.route(prompt) for prompt in prompts[:50]] for router in (taught, again))
    assert [each.tier for each in before] == [each.tier for each in after]
    assert [each.sufficiency for each in before] == pytest.approx([each.sufficiency for each in after], abs=1e-6)
    # Prompts that it learned from are still known, so that a new calibration is not fooled.
    found = again.calibrate(prompts, scores, max_loss=0.05)
    assert found.order == pytest.approx(ComplexityRouter(PAIR).fit(prompts, scores).calibrate(
        prompts, scores, max_loss=0.05).order, abs=0.01)  # fmt: skip
    other = ComplexityRouter.load(path, {"simple": "claude-haiku-4-5", "complex": "gpt-4o"}, shadow=True)
    assert (other.route("the colour").chosen, other.tiers["simple"].model) == ("simple", "claude-haiku-4-5")
    with pytest.raises(ConfigError, match="in this order"):
        ComplexityRouter.load(path, {"complex": "a", "simple": "b"})


def test_what_is_learned_does_not_hang_on_the_order_of_the_prompts() -> None:
    prompts, scores = made_up(300)
    asked = made_up(40, seed=1)[0]
    forward = ComplexityRouter(PAIR).fit(prompts, scores)
    backward = ComplexityRouter(PAIR).fit(prompts[::-1], scores[::-1])
    before, after = ([router.route(prompt).sufficiency for prompt in asked] for router in (forward, backward))
    assert before == pytest.approx(after, abs=1e-6)


def test_a_file_from_before_words_had_weights_is_read(taught: ComplexityRouter, tmp_path: Path) -> None:
    taught.save(path := tmp_path / "router.npz")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    silent = arrays["vectors"] * np.array([1] * 64 + [0, 0, 1], np.float32)
    np.savez(tmp_path / "silent.npz", **arrays | {"vectors": silent})
    np.savez(tmp_path / "old.npz", **arrays | {"vectors": arrays["vectors"][:-1, :64]})
    asked = [*made_up(20, seed=1)[0], "nothing that anybody knew", "", "얼음"]
    now, old = (
        [router.route(prompt).sufficiency for prompt in asked]
        for router in (ComplexityRouter.load(tmp_path / f"{name}.npz") for name in ("silent", "old"))
    )
    assert now == old


def test_few_judged_prompts_are_said_to_be_few() -> None:
    prompts, scores = made_up(2500, seed=7)
    few, enough = (
        ComplexityRouter(PAIR).calibrate(prompts[:count], scores[:count], max_loss=0.1) for count in (120, 2500)
    )
    assert "120 judged prompts" in " ".join(few.warnings)
    assert "judged prompts are few" not in " ".join(enough.warnings)


def test_tiers_and_rules_come_back(tmp_path: Path) -> None:
    path = tmp_path / "router.npz"
    router = ComplexityRouter({"s": Tier("m", max_tokens=9), "c": "gpt-4o"}, rules=[Rule("환불", tier="c")])
    router.save(path)
    again = ComplexityRouter.load(path)
    assert again.route("hi").params == {"max_tokens": 9}
    assert again.route("환불").reasons == ("rule:0",)
    with pytest.raises(ConfigError, match="cannot be saved"):
        ComplexityRouter({"s": Tier("m", stop=object()), "c": "x"}).save(path)
    with pytest.raises(ConfigError, match="nothing to save"):
        ComplexityRouter.rules(PAIR).save(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_another_file_is_no_router(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no router's file"):
        ComplexityRouter.load(path)
    np.savez(path, head=np.frombuffer(json.dumps({"llm_savings_router": 99}).encode(), np.uint8))
    with pytest.raises(ConfigError, match="version 99"):
        ComplexityRouter.load(path)


def test_drift_is_noticed_and_sameness_too(taught: ComplexityRouter) -> None:
    assert "not calibrated" in ComplexityRouter(PAIR).report_drift().message
    router = ComplexityRouter(PAIR)
    router.calibrate([f"explain topic {'x ' * (n % 60)}" for n in range(300)], share={"complex": 0.3})
    assert "too few" in router.report_drift().message
    for n in range(300):
        router.route(f"explain topic {'x ' * (n % 60)}")
    same = router.report_drift()
    assert (same.requests, same.drifted) == (300, False)
    for _ in range(900):
        router.route("hi")
    assert router.report_drift().drifted


def ledger_of(path: Path, *, routed_cost: str, other_cost: str) -> tuple[Ledger, dict[str, float]]:
    """A ledger with an experiment of 60 conversations of each arm."""
    ledger, judged = Ledger(path), {}
    for number in range(240):
        arm = "other" if number % 4 < 2 else "routed"
        said = {"tier": "complex" if arm == "other" else "simple", "chosen": "simple", "arm": arm}
        sent = Sent(call_id=str(number), host="sdk", requested_model="auto", session=f"{number // 2}",
                    started_at=datetime(2026, 11, 1, tzinfo=UTC))  # fmt: skip
        ledger.sent(sent)
        cost = Decimal(other_cost if arm == "other" else routed_cost) * (1 + number % 3)
        ledger.settle(
            sent, Settled(status="ok", basis="measured", model="m", actual=cost, strategies={"routing": said})
        )
        judged[str(number)] = float(number // 4 % 5 != 0)  # alike in both arms
    return ledger, judged


def test_an_experiment_says_whether_cost_and_quality_differ(tmp_path: Path) -> None:
    ledger, judged = ledger_of(tmp_path / "costs.db", routed_cost="0.001", other_cost="0.01")
    with ledger:
        (found,) = compare(ledger.calls(), judged)
    assert (found.chosen, found.sent) == ("simple", "complex")
    assert found.cost is not None and found.cost.differs and found.cost.high < 0
    assert found.cost.conversations == (60, 60)
    assert found.quality is not None and not found.quality.differs
    assert compare([], {}) == []


def test_a_conversation_with_a_call_of_unknown_cost_is_not_taken_for_a_cheap_one(tmp_path: Path) -> None:
    ledger, _ = ledger_of(tmp_path / "costs.db", routed_cost="0.001", other_cost="0.01")
    with ledger:
        calls = list(ledger.calls())
    lost = [
        Call(each.sent, replace(each.settled, basis="unknown", actual=None))
        if each.settled and number % 20 == 0  # the first of two calls of every tenth conversation
        else each
        for number, each in enumerate(calls)
    ]
    (found,) = compare(lost)
    assert found.cost is not None and found.cost.conversations == (60, 48)
    whole = [each for number, each in enumerate(calls) if number % 20 > 1]
    assert found.cost == compare(whole)[0].cost


def test_the_command_line(tmp_path: Path) -> None:
    run = CliRunner().invoke
    said = run(main, ["route", "파이썬이 뭐야?"])
    assert (said.exit_code, said.output.split()[:3]) == (0, ["simple", "->", "gpt-4o-mini"])
    assert json.loads(run(main, ["route", "아키텍처를 설계하고 분석해줘", "--json"]).output)["model"] == "gpt-4o"
    assert "article:complex" in run(main, ["route", "분석", "--rules"]).output

    data, file = tmp_path / "judged.jsonl", str(tmp_path / "router.npz")
    rows = [{"prompt": prompt, "scores": score} for prompt, score in zip(*made_up(400), strict=True)]
    data.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    done = run(main, ["route", "fit", str(data), "--out", file])
    assert (done.exit_code, "learned from 400 prompts" in done.output) == (0, True), done.output
    done = run(main, ["route", "calibrate", str(data), "--router", file, "--max-loss", "0.05"])
    assert done.exit_code == 0, done.output
    assert "quality lost" in done.output and "saved of always-strongest" in done.output
    assert "learned" in run(main, ["route", "the theorem and the proof", "--router", file]).output
    shares = run(main, ["route", "calibrate", str(data), "--share", "complex=0.25", "--json"])
    assert json.loads(shares.output)["share"]["complex"] == pytest.approx(0.25, abs=0.03)

    ledger, judged = ledger_of(tmp_path / "costs.db", routed_cost="0.001", other_cost="0.01")
    ledger.close()
    thumbs = tmp_path / "thumbs.jsonl"
    thumbs.write_text("\n".join(json.dumps({"call_id": k, "thumb": "up" if v else "down"}) for k, v in judged.items()))
    done = run(main, ["route", "evaluate", str(tmp_path / "costs.db"), "--quality", str(thumbs)])
    assert done.exit_code == 0, done.output
    assert "differs" in done.output and "cannot be told apart" in done.output

    prompts, _ = made_up(240)
    lines = [json.dumps({"prompt": p, "call_id": str(n), "thumb": "up"}) for n, p in enumerate(prompts)]
    data.write_text("\n".join(lines), "utf-8")
    done = run(main, ["route", "fit", str(data), "--out", file, "--ledger", str(tmp_path / "costs.db")])
    assert done.exit_code == 0, done.output
    broken = run(main, ["route", "fit", str(data), "--out", file, "--tiers", "simple"])
    assert (broken.exit_code, "NAME=VALUE" in broken.output) == (1, True)
