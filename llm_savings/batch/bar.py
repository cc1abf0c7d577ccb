"""A job's progress in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from llm_savings.batch.job import Status


@contextmanager
def bar() -> Generator[Callable[[Status], None]]:
    """What shows a status: requests that have ended, failures, cost so far, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("batch", total=None, told="")

        def tell(status: Status) -> None:
            ended = status.answered + status.failed + status.running
            progress.update(task, completed=ended, total=status.requests, description=status.id[:8], told=told(status))

        yield tell


def told(status: Status) -> str:
    """The figures beside the bar."""
    parts = [f"${status.spent:.4f}"]
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    if status.seconds_left is not None and not status.done:
        parts.append(f"about {_span(status.seconds_left)} left")
    return " · ".join(parts)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
