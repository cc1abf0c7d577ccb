"""A job's progress in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from llm_savings.batch.job import Status


@contextmanager
def bar() -> Generator[Callable[[Status], None]]:
    """What shows a status: requests that have ended, cost so far, failures, time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("batch", total=None, told="")

        def tell(now: Status) -> None:
            ended = now.answered + now.failed + now.running
            progress.update(task, completed=ended, total=now.requests, description=now.id[:8], told=told(now))

        yield tell


def told(now: Status) -> str:
    """The figures beside the bar."""
    parts = ["cost unknown" if now.spent.is_nan() else f"${now.spent:.4f}"]
    if now.failed:
        parts.append(f"{now.failed:,} failed")
    if now.seconds_left is not None and not now.done:
        minutes = now.seconds_left / 60
        parts.append(f"about {now.seconds_left:.0f} s left" if minutes < 2 else f"about {minutes:.0f} min left")
    return " · ".join(parts)
