"""`llm-savings route`: ask a router, teach it, choose its thresholds, and see what an experiment says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import click
from rich.table import Table
from rich.text import Text

from llm_savings.cli.shared import JSON, Console, must_exist, print_json
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.storage.tables import records_of, text_of, values_of

_TIERS = "simple=gpt-4o-mini,complex=gpt-4o"
_YES, _NO = frozenset({"1", "true", "up", "yes", "good", "👍"}), frozenset({"0", "false", "down", "no", "bad", "👎"})


class _Group(click.Group):
    """`route "prompt"` asks, without a command's name."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """A word that is no command's name is a prompt."""
        if args and args[0] not in self.commands:
            args = ["ask", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, epilog='Example: llm-savings route "마이크로서비스 아키텍처를 설계해줘"')
def route() -> None:
    """Where requests go: route "PROMPT", or one of the commands."""


_tiers = click.option("--tiers", metavar="NAME=MODEL,...", help=f"From the cheapest on.  [default: {_TIERS}]")
_router = click.option("--router", "path", type=click.Path(exists=True, dir_okay=False), help="A saved router's file.")
_data = click.argument("data", type=click.Path(exists=True, dir_okay=False))


@route.command(hidden=True)
@click.argument("prompt")
@_tiers
@_router
@click.option("--rules", is_flag=True, help="By the source article's rules.")
@JSON
def ask(prompt: str, tiers: str | None, path: str | None, rules: bool, as_json: bool) -> None:
    """Say where PROMPT would go, and why."""
    from llm_savings.routing import ComplexityRouter

    decision = (ComplexityRouter.rules(_named(tiers)) if rules else _opened(path, tiers)).route(prompt)
    if as_json:
        print_json({"model": decision.model} | decision.evidence())
        return
    sure = (
        "" if decision.sufficiency is None else f", the cheapest suffices with probability {decision.sufficiency:.2f}"
    )
    click.echo(f"{decision.tier} -> {decision.model} ({', '.join(decision.reasons)}{sure})")


@route.command(epilog="Example: llm-savings route fit judged.jsonl --out router.npz")
@_data
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="The router's file to write.")
@_tiers
@click.option("--ledger", help="Where thumbs name calls by call_id: the ledger that knows their tier.")
def fit(data: str, out: str, tiers: str | None, ledger: str | None) -> None:
    """Learn from judged prompts in DATA: JSON lines or CSV.

    A line has a prompt and one of: scores ({"simple": 1, "complex": 0.5}; in CSV a column for each tier or model),
    preferred (a tier, or tie), or thumb (up or down) with tier or call_id.
    """
    router = _opened(None, tiers)
    prompts, scores = _read(data, tuple(router.names), ledger)
    router.fit(prompts, scores).save(out)
    click.echo(f"learned from {len(prompts):,} prompts; wrote {out}. Next: llm-savings route calibrate {data}")


@route.command(epilog="Example: llm-savings route calibrate judged.jsonl --router router.npz --max-loss 0.05")
@_data
@_router
@click.option("--out", type=click.Path(dir_okay=False), help="The file to write; by default the one of --router.")
@_tiers
@click.option("--max-loss", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Such as 0.05.")
@click.option("--share", metavar="TIER=SHARE,...", help="Instead: such as complex=0.2. Needs no judgements.")
@JSON
def calibrate(data: str, path: str | None, out: str | None, tiers: str | None, as_json: bool, **wanted: Any) -> None:
    """Choose thresholds on the prompts in DATA, and say what they will do. DATA is as for fit."""
    router = _opened(path, tiers)
    max_loss, share = wanted["max_loss"], wanted["share"]
    prompts, scores = _read(data, tuple(router.names), None, needed=share is None)
    shares = None if share is None else {name: _number(part, "share") for name, part in _split(share, "share")}
    found = router.calibrate(
        prompts, scores, max_loss=0.05 if max_loss is None and shares is None else max_loss, share=shares
    )
    if target := out or path:
        router.save(target)
    if as_json:
        print_json(asdict(found) | {"routable": found.routable})
        return
    table = Table("", "", box=None, show_header=False)
    table.add_row("prompts", f"{found.rows:,}")
    for name, part in found.share.items():
        table.add_row(Text(f"to {name}"), f"{part:.1%}")
    if found.saving is not None:
        table.add_row("saved of always-strongest", f"{found.saving:.1%}")
    if found.loss is not None and found.loss_bounds is not None:
        low, high = found.loss_bounds
        table.add_row("quality lost", f"{found.loss:.2%} [{low:.2%}, {high:.2%}]")
    if found.order is not None and found.order_bounds is not None:
        low, high = found.order_bounds
        table.add_row("gap recovered (APGR)", f"{found.order:.3f} [{low:.3f}, {high:.3f}], a coin 0.500")
    Console().print(table)
    for warning in found.warnings:
        click.echo(f"• {warning}")
    if target:
        click.echo(f"wrote {target}")


@route.command(epilog="Example: llm-savings route evaluate costs.db --quality thumbs.jsonl")
@click.argument("ledger")
@click.option(
    "--quality", type=click.Path(exists=True, dir_okay=False), help="Lines with call_id and quality or thumb."
)
@JSON
def evaluate(ledger: str, quality: str | None, as_json: bool) -> None:
    """Whether quality and cost differ between the arms of an experiment (`experiment=0.1`) in LEDGER."""
    from llm_savings.ledger import Ledger
    from llm_savings.routing.trial import compare

    must_exist("LEDGER", ledger)
    judged = None if quality is None else {row["call_id"]: _quality(row) for row in _lines(quality) if "call_id" in row}
    with Ledger(ledger) as opened:
        found = compare(opened.calls(), judged)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        click.echo("no experiment in this ledger: make the router with experiment=0.1")
    for each in found:
        click.echo(f"chosen {each.chosen}, the other arm sent to {each.sent}")
        for name, gap, form in (("cost, USD", each.cost, "{:.6f}"), ("quality", each.quality, "{:.3f}")):
            if gap is None:
                click.echo(f"  {name}: too few conversations of an arm to say anything")
                continue
            routed, other, low, high = (form.format(value) for value in (gap.routed, gap.other, gap.low, gap.high))
            verdict = "differs" if gap.differs else "cannot be told apart"
            click.echo(
                f"  {name}: {routed} against {other}, difference [{low}, {high}]: {verdict}"
                f" ({gap.conversations[0]} and {gap.conversations[1]} conversations)"
            )


def _opened(path: str | None, tiers: str | None) -> Any:
    from llm_savings.routing import ComplexityRouter

    if path is not None:
        return ComplexityRouter.load(path, None if tiers is None else _named(tiers))
    return ComplexityRouter(_named(tiers))


def _named(tiers: str | None) -> dict[str, str]:
    return dict(_split(tiers or _TIERS, "tiers"))


def _split(said: str, option: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in said.split(",")]
    if not all(name.strip() and value.strip() for name, _, value in parts):
        raise ConfigError(f"--{option} {said!r}: give NAME=VALUE,NAME=VALUE")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _number(said: Any, what: str) -> float:
    try:
        return float(said)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: {said!r} is no number") from error


def _lines(path: str) -> list[dict[str, Any]]:
    text = text_of(path)
    if path.lower().endswith(".csv"):
        return [{name: cell for name, cell in row.items() if name and cell} for _, row in records_of(text)]
    found: list[dict[str, Any]] = []
    for number, row in values_of(text):
        if not isinstance(row, dict):
            raise LogFormatError(f"{path}: expected a JSON object", number)
        found.append(cast("dict[str, Any]", row))
    return found


def _read(
    path: str, names: Sequence[str], ledger: str | None, *, needed: bool = True
) -> tuple[list[str], list[Mapping[str, float]] | None]:
    """The prompts of a file and what is known of each tier's answers; None for the latter where it is not needed."""
    rows = [row for row in _lines(path) if isinstance(row.get("prompt"), str)]
    prompts = [cast(str, row["prompt"]) for row in rows]
    if not prompts:
        raise ConfigError(f"{path}: no line has a prompt; see llm-savings route fit --help for what it expects")
    if not needed:
        return prompts, None
    tier_of = _tiers_of(ledger, [str(row["call_id"]) for row in rows if "call_id" in row])
    scores: list[Mapping[str, float]] = []
    for row in rows:
        if isinstance(row.get("scores"), dict):
            scores.append({str(name): _number(value, "scores") for name, value in row["scores"].items()})
        elif "preferred" in row:
            scores.append({name: float(row["preferred"] in ("tie", name)) for name in names})
        elif "thumb" in row:
            tier = row.get("tier") or tier_of.get(str(row.get("call_id")))
            scores.append({} if tier is None else {str(tier): _quality(row)})
        else:
            rest = {k: v for k, v in row.items() if k not in ("prompt", "call_id", "tier", "id", "dataset")}
            scores.append({name: _number(value, name) for name, value in rest.items()})
    return prompts, scores


def _quality(row: Mapping[str, Any]) -> float:
    if "quality" in row:
        return _number(row["quality"], "quality")
    said = str(row.get("thumb", "")).strip().lower()
    if said not in _YES | _NO:
        raise ConfigError(f"thumb: {row.get('thumb')!r}; give up or down")
    return float(said in _YES)


def _tiers_of(target: str | None, calls: Sequence[str]) -> dict[str, str]:
    """The tier that each call was sent to, by the ledger."""
    if target is None:
        return {}
    must_exist("--ledger", target)
    from llm_savings.ledger import Ledger
    from llm_savings.routing.trial import evidence_of

    found: dict[str, str] = {}
    with Ledger(target) as ledger:
        for call_id in calls:
            call = ledger.get(call_id)
            if call is not None and (said := evidence_of(call)) and not said.get("fallback"):
                found[call_id] = str(said["tier"])
    return found
