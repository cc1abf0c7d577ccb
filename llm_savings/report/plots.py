"""Charts for a notebook, with matplotlib (`pip install "llm-savings[notebook]"`).

from llm_savings.report.plots import plot_budget, plot_days, plot_waterfall

plot_waterfall(attribute(ledger.calls()))
plot_days(ledger, tz="Asia/Seoul", lang="ko")
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

from llm_savings.attribution import LADDER, Attribution
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy
from llm_savings.ledger import Ledger, zone
from llm_savings.pricing import PriceBook
from llm_savings.report.budgets import budget_states
from llm_savings.report.money import dollars
from llm_savings.report.overview import read
from llm_savings.report.strategies import steps
from llm_savings.report.texts import Lang, say

_ZERO = Decimal(0)
_MOST = 150  # percent of a limit
_COLOURS: dict[str, str] = {
    "paid": "#3c444d",
    "baseline": "#c9cbcd",
    "saved": "#0b7558",
    "cost": "#b3261e",
    **dict(zip(LADDER, ("#0b7558", "#2f8fa8", "#6fb592", "#8fbdd6", "#b9d8b0"), strict=True)),
}
_CJK = ("Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic", "Noto Sans CJK KR", "Noto Sans KR", "Noto Sans CJK JP")


def plot_waterfall(found: Attribution, *, ax: Any = None, lang: Lang = "en") -> Any:
    """The way from the baseline down to the bill, a bar a strategy.

    Args:
        found: What `attribute` or a scenario gives.
        ax: Matplotlib axes to draw on; new ones by default.
        lang: The language of the labels; English where no font has Korean letters.

    Returns:
        The axes.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    ax, lang = _axes(ax), _written(lang)
    told = steps(found)
    names, left, right, added = zip(*told, strict=True)
    ends = ("baseline", "paid")
    tones = [name if name in ends else "cost" if usd > 0 else "saved" for name, usd in zip(names, added, strict=True)]
    wide = [high - low for low, high in zip(left, right, strict=True)]
    bars = ax.barh(range(len(told)), _numbers(wide), left=_numbers(left), color=[_COLOURS[tone] for tone in tones])
    ax.bar_label(bars, labels=[_plain(dollars(usd if found.known else None)) for usd in added], padding=4)
    ax.margins(x=0.15)
    ax.set_yticks(range(len(told)), [say(f"strategy.{name}").text(lang) for name in names], fontfamily=_fonts(lang))
    ax.invert_yaxis()
    return _finished(ax, "x", lang)


def plot_days(
    ledger: Ledger,
    *,
    tz: str = "UTC",
    since: datetime | None = None,
    until: datetime | None = None,
    ax: Any = None,
    lang: Lang = "en",
) -> Any:
    """A bar a day: what was paid, and above it what each strategy took off.

    Args:
        ledger: The ledger.
        tz: The zone whose days are meant.
        since: Calls started at or after this instant (aware).
        until: Calls started before this instant.
        ax: Matplotlib axes to draw on; new ones by default.
        lang: The language of the legend.

    Returns:
        The axes.

    Raises:
        ConfigError: matplotlib is not installed, or there is no such zone.
        LedgerError: The ledger cannot be read.
    """
    ax, lang = _axes(ax), _written(lang)
    days = read(ledger.calls(since=since, until=until), zone(tz), PriceBook()).every_day
    dates = list(days)
    floor = [_ZERO] * len(days)
    used: list[Strategy] = [one for one in LADDER if any(day.credits.get(one, _ZERO) > 0 for day in days.values())]
    heights: dict[str, list[Decimal]] = {"paid": [day.actual for day in days.values()]}
    heights |= {one: [max(day.credits.get(one, _ZERO), _ZERO) for day in days.values()] for one in used}
    for step, high in heights.items():
        colour = _COLOURS[step]
        label = say(f"strategy.{step}").text(lang)
        ax.bar(range(len(dates)), _numbers(high), bottom=_numbers(floor), color=colour, label=label)
        floor = [low + more for low, more in zip(floor, high, strict=True)]
    every = max(1, -(-len(dates) // 8))
    ax.set_xticks(range(0, len(dates), every), [date[5:] for date in dates[::every]])
    if dates:
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), prop={"family": _fonts(lang)})
    return _finished(ax, "y", lang)


def plot_budget(ledger: Ledger, *, at: datetime | None = None, ax: Any = None, lang: Lang = "en") -> Any:
    """How much of each limit is spent and held, and where it will be at the period's end (a line).

    Args:
        ledger: The ledger.
        at: The moment (aware); now by default.
        ax: Matplotlib axes to draw on; new ones by default.
        lang: The language of the legend.

    Returns:
        The axes; bars are shares of the limit, in percent. What goes beyond 150% ends there.

    Raises:
        ConfigError: matplotlib is not installed.
        LedgerError: The ledger cannot be read.
    """
    ax, lang = _axes(ax), _written(lang)
    standings = [one for state in budget_states(ledger, at) for one in state.standings if one.limit]
    places = range(len(standings))
    spent, held, ahead = (
        _numbers([min((getattr(one, name) or _ZERO) * 100 / (one.limit or 1), Decimal(_MOST)) for one in standings])
        for name in ("spent", "held", "forecast")
    )
    ax.barh(places, spent, color=_COLOURS["saved"], label=say("column.spent").text(lang))
    ax.barh(places, held, left=spent, color=_COLOURS["baseline"], label=say("column.held").text(lang))
    ax.scatter(ahead, places, marker="|", s=300, color=_COLOURS["paid"], label=say("column.forecast").text(lang))
    ax.axvline(100, color=_COLOURS["cost"], linewidth=1)
    names = [_plain(" · ".join(filter(None, (one.budget, one.period, one.scope)))) for one in standings]
    ax.set_yticks(places, names, fontfamily=_fonts("ko"))
    ax.invert_yaxis()
    if standings:
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), prop={"family": _fonts(lang)})
    ax.set_xlim(0, _MOST + 5)
    ax.set_xlabel("%")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _axes(ax: Any) -> Any:
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ConfigError('plots need matplotlib; install it with: pip install "llm-savings[notebook]"') from error
    return ax if ax is not None else pyplot.subplots(layout="constrained")[1]


def _finished(ax: Any, axis: str, lang: Lang) -> Any:
    getattr(ax, f"set_{axis}label")(say("column.usd").text(lang))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _numbers(amounts: Sequence[Decimal]) -> Any:
    return import_module("numpy").array(amounts, dtype="float64")  # for the eye only


def _fonts(lang: Lang) -> list[str]:
    """Fonts that are here: matplotlib's own, and one with Korean letters for what it lacks."""
    if lang == "en":
        return ["DejaVu Sans"]
    here = {font.name for font in import_module("matplotlib.font_manager").fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _CJK if name in here][:1]]


def _written(lang: Lang) -> Lang:
    return lang if len(_fonts(lang)) > 1 else "en"


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads what is between two dollar signs as mathematics
