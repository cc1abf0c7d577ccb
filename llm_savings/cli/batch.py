"""`llm-savings batch`: work that can wait, at half price, from a file to a file."""

from __future__ import annotations

import csv
import json
import os
import string
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import click
from rich.text import Text

from llm_savings.batch import (
    Answered,
    Estimate,
    InputError,
    Job,
    Journal,
    Options,
    Outcome,
    Status,
    list_jobs,
    open_job,
    submit,
)
from llm_savings.batch.bar import told
from llm_savings.batch.inputs import raw
from llm_savings.batch.records import JobRow
from llm_savings.batch.schemas import answer_format
from llm_savings.cli.shared import JSON, Console, imported, must_exist, print_json
from llm_savings.errors import BatchError, ConfigError
from llm_savings.ledger.export import write_csv
from llm_savings.meter import Meter
from llm_savings.report.money import dollars
from llm_savings.report.tables import plain_table
from llm_savings.storage.tables import text_of

_journal = click.option("--journal", type=click.Path(dir_okay=False), help="The jobs' file. [LLM_SAVINGS_BATCHES]")
_ledger = click.option("--ledger", help="The ledger for the costs. [LLM_SAVINGS_LEDGER]")
_REVIEWS = (
    "Example: llm-savings batch submit reviews.csv --model gpt-4o-mini --schema shop:Review --max-tokens 60 "
    '--prompt-template "이 리뷰의 감정을 분류해 주세요: {review}"'
)


@click.group()
def batch() -> None:
    """Send requests that can wait at half price, and never pay twice.

    Every command may be interrupted, or killed, and run again: it goes on where it was.
    """


@batch.command("submit", epilog=_REVIEWS)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", help="The model, unless the requests name it.")
@click.option("--provider", type=click.Choice(["openai", "azure", "anthropic"]), help="By default from the model.")
@click.option(
    "--prompt-template", "template", help="The prompt, with {column} for what each row of FILE has; or @FILE."
)
@click.option("--system", help="A system prompt for every row.")
@click.option("--schema", metavar="MODULE:MODEL", help="The pydantic model that answers shall fit.")
@click.option("--max-tokens", type=click.IntRange(1), help="The most output tokens of an answer.")
@click.option("--id-column", help="The column with a row's own name, for the results.")
@click.option("--encoding", default="utf-8-sig", show_default=True, help="Of a CSV file, such as cp949.")
@click.option("--name", default="", help="Makes the same rows a job of its own, to be paid for again.")
@click.option("--max-cost", help="USD: a job that may cost more is not sent.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), help="Hours after which answers are needed.")
@click.option("--real-time", is_flag=True, help="After the deadline, ask for the rest at the full price.")
@click.option("--reuse", is_flag=True, help="Take answers over that earlier jobs have to the same requests.")
@click.option("--tag", "tags", multiple=True, metavar="KEY:VALUE", help="A label for the ledger; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask whether the price is right.")
@click.option("--wait/--no-wait", default=False, help="Stay until it is done.")
@_journal
@_ledger
def submit_(file: str, **given: Any) -> None:
    """Send FILE as a batch job: JSON lines of requests, or rows (CSV, JSON lines) that fill in a prompt.

    Nothing is sent before all of FILE has been checked and the price was shown. Submitting FILE again finds the job.
    """
    provider = given.pop("provider") or ("anthropic" if "claude" in str(given["model"]) else "openai")
    deadline = None if given["deadline"] is None else timedelta(hours=given["deadline"])
    options = Options(
        name=given["name"],
        max_cost=given["max_cost"],
        confirm=None if given["yes"] else _confirmed,
        deadline=deadline,
        real_time=given["real_time"],
        reuse=given["reuse"],
        tags=dict(_pair(tag) for tag in given["tags"]),
    )
    requests = _requests(file, provider, **given) if given["template"] else file
    if not given["template"] and Path(file).suffix.lower() == ".csv":
        raise click.UsageError("a CSV file needs --prompt-template")
    job = submit(
        cast("Any", requests),
        provider=provider,
        model=given["model"],
        journal=given["journal"],
        meter=Meter(given["ledger"]),
        options=options,
    )
    status = _waited(job) if given["wait"] else job.status(refresh=False)
    click.echo(f"{job.id}  {_line(status)}")
    click.echo(f"Results: llm-savings batch collect {job.id[:8]} --out results.jsonl")


@batch.command(epilog="Example: llm-savings batch status 5f0c9a54")
@click.argument("job")
@JSON
@_journal
@_ledger
def status(job: str, as_json: bool, journal: str | None, ledger: str | None) -> None:
    """How far JOB is: asks the provider, and does what there is to do."""
    found = _opened(job, journal, ledger)
    now = found.status()
    if as_json:
        money = {name: None if now.spent.is_nan() else format(getattr(now, name), "f") for name in ("spent", "saved")}
        print_json({**asdict(now), **money, "estimate": found.estimate.as_dict()})
        return
    click.echo(f"{now.id}  {now.state}, {_line(now)}")
    if now.saved > 0:
        click.echo(f"In real time these answers would have cost {dollars(now.saved)} more.")


@batch.command(epilog="Example: llm-savings batch collect 5f0c9a54 --out results.jsonl --schema shop:Review")
@click.argument("job")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="The results: .jsonl or .csv.")
@click.option("--schema", metavar="MODULE:MODEL", help="The pydantic model that answers shall fit.")
@click.option("--wait/--no-wait", default=True, help="Stay until it is done; else take what is there.")
@_journal
@_ledger
def collect(job: str, out: str, schema: str | None, wait: bool, journal: str | None, ledger: str | None) -> None:
    """Write what became of every input of JOB, in the order of the inputs."""
    kind = _schema(schema)
    found = _opened(job, journal, ledger)
    now = _waited(found) if wait else found.status()
    fresh = Path(f"{out}.{os.getpid()}.part")
    try:
        fresh.touch(mode=0o600, exist_ok=False)

        def outcomes() -> Iterator[tuple[Outcome, bytes | None]]:
            return found.outcomes(kind)

        is_table = out.lower().endswith(".csv")
        count, failed = _write_csv(fresh, outcomes, kind) if is_table else _write_lines(fresh, outcomes)
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)
    click.echo(f"{count:,} results in {out}, {failed:,} without an answer; {_line(now)}")
    if failed:
        sys.exit(1)


@batch.command(epilog="Example: llm-savings batch cancel 5f0c9a54")
@click.argument("job")
@_journal
@_ledger
def cancel(job: str, journal: str | None, ledger: str | None) -> None:
    """Stop JOB. What is answered by then is kept, and paid for."""
    now = _opened(job, journal, ledger).cancel()
    click.echo(f"{now.id}  {_line(now)}")


@batch.command(epilog="Example: llm-savings batch erase 5f0c9a54")
@click.argument("job")
@_journal
def erase(job: str, journal: str | None) -> None:
    """Delete JOB here, and its files at the provider. Amounts in the ledger stay."""
    _opened(job, journal, ":memory:").erase()
    click.echo("deleted")


@batch.command("list", epilog="Example: llm-savings batch list")
@JSON
@_journal
def list_(as_json: bool, journal: str | None) -> None:
    """Every job, the newest first."""
    must_exist("--journal", journal)
    if as_json:
        print_json([_job(row) for row in list_jobs(Journal(journal))])
        return
    heads = ("job", "state", "model", "from", "inputs", "may cost at most")
    table = plain_table(*heads, left=heads[1:4])
    for row in list_jobs(Journal(journal)):
        told = Estimate.from_dict(row.estimate) if row.estimate else None
        at = datetime.fromtimestamp(row.created, UTC).astimezone()
        most = "" if told is None or told.upper_bound is None else dollars(told.upper_bound)
        cells = (row.id[:8], row.state, row.model, f"{at:%Y-%m-%d %H:%M}", f"{told.inputs:,}" if told else "", most)
        table.add_row(*map(Text, cells))
    Console().print(table)


def _job(row: JobRow) -> dict[str, Any]:
    """A job for machines: its beginning in UTC, amounts as decimal text."""
    created = datetime.fromtimestamp(row.created, UTC).isoformat()
    named = {name: getattr(row, name) for name in ("id", "state", "provider", "model")}
    return {**named, "created": created, "estimate": row.estimate or None}


def _requests(file: str, provider: str, **given: Any) -> Iterator[tuple[Mapping[str, Any], bytes | None]]:
    """A request for each row of a file, and the row."""
    template: str = given["template"]
    if template.startswith("@"):
        template = text_of(template[1:])
    names = _names(template)
    fixed: dict[str, Any] = {"max_tokens": given["max_tokens"]} if given["max_tokens"] else {}
    if kind := _schema(given["schema"]):
        fixed |= answer_format(kind, provider)
    before: list[dict[str, str]] = []
    if given["system"] and provider == "anthropic":
        fixed["system"] = given["system"]
    elif given["system"]:
        before = [{"role": "system", "content": given["system"]}]
    for number, row in _rows(file, given["encoding"]):
        for name in (*names, *([given["id_column"]] if given["id_column"] else ())):
            if row.get(name) is None:
                raise InputError(number, name, f"is missing; FILE has {', '.join(map(str, row)) or 'nothing there'}")
        prompt = template.format_map({name: row[name] for name in names})
        body = {"messages": [*before, {"role": "user", "content": prompt}], **fixed}
        line: dict[str, Any] = {"body": body}
        if given["id_column"]:
            line["custom_id"] = str(row[given["id_column"]])
        yield line, json.dumps(row, ensure_ascii=False).encode()


def _names(template: str) -> list[str]:
    try:
        found = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ConfigError(f"--prompt-template: {error}; write {{{{ and }}}} for braces of its own") from error
    if wrong := [name for name in found if not name.isidentifier()]:
        raise ConfigError(f"--prompt-template has {{{wrong[0]}}}; expected a column's name, as {{review}}")
    return found


def _rows(file: str, encoding: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if Path(file).suffix.lower() != ".csv":
        for number, row, _ in raw(file):
            if not isinstance(row, dict):
                raise InputError(number, "row", "is no JSON object")
            yield number, cast("dict[str, Any]", row)
        return
    try:
        with Path(file).open(encoding=encoding, newline="") as lines:
            for number, found in enumerate(csv.DictReader(lines, restkey="(more)", strict=True), 2):
                yield number, found
    except (UnicodeDecodeError, LookupError) as error:
        raise ConfigError(f"{file} is not {encoding} text: {error}; name its encoding, as --encoding cp949") from error
    except csv.Error as error:
        raise ConfigError(f"{file} is no CSV: {error}") from error


def _schema(named: str | None) -> Any:
    """The pydantic model of a MODULE:MODEL."""
    found = None if named is None else imported(named)
    if found is not None and not hasattr(found, "model_json_schema"):
        raise ConfigError(f"--schema {named!r} is no pydantic model")
    return found


_Outcomes = Callable[[], Iterator[tuple[Outcome, bytes | None]]]
_OWN = ("number", "custom_id", "output", "error", "raw")  # columns of every table of results


def _records(outcomes: _Outcomes) -> Iterator[dict[str, Any]]:
    return (_record(found, json.loads(memo) if memo else None) for found, memo in outcomes())


def _write_lines(path: Path, outcomes: _Outcomes) -> tuple[int, int]:
    count = failed = 0
    with path.open("w", encoding="utf-8") as file:
        for row in _records(outcomes):
            count += 1
            failed += row["error"] is not None
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count, failed


def _write_csv(path: Path, outcomes: _Outcomes, kind: Any) -> tuple[int, int]:
    """A column for each of an input's names and an answer's fields, whichever row has it first."""
    names: list[str] = [] if kind is None else [*kind.model_fields]
    fields = _apart(dict.fromkeys(names), "output", _OWN)

    def flat() -> Iterator[dict[str, Any]]:
        for row in _records(outcomes):
            given = _apart(row.pop("input", None) or {}, "input", (*_OWN, *fields))
            parts = _apart(row.pop("output"), "output", _OWN) if isinstance(row["output"], dict) else {}
            yield {name: _cell(value) for name, value in {**given, **row, **parts}.items()}

    columns: dict[str, Any] = {}
    failed = 0
    for row in flat():
        columns |= dict.fromkeys(row)
        failed += row["error"] is not None
    ordered = [*(name for name in columns | fields if name not in _OWN[2:]), *_OWN[2:]]
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # Excel reads Korean by its byte order mark
        return write_csv(file, ordered, flat()), failed


def _apart(members: Mapping[str, Any], whose: str, taken: Collection[str]) -> dict[str, Any]:
    """The same, names that something else has told apart."""
    return {f"{whose}_{name}" if name in taken else name: value for name, value in members.items()}


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _record(found: Outcome, row: Mapping[str, Any] | None) -> dict[str, Any]:
    head: dict[str, Any] = {"number": found.number, "custom_id": found.custom_id}
    if row is not None:
        head["input"] = row
    if isinstance(found, Answered):
        output = found.parsed.model_dump(mode="json") if found.parsed is not None else found.text
        return {**head, "output": output, "error": None}
    return {**head, "output": None, "error": f"{found.kind}: {found.message}", "raw": found.raw}


def _confirmed(told: Estimate) -> bool:
    lines = [f"{told.inputs:,} inputs, {told.requests:,} different requests"]
    if told.expected is not None:
        basis = "from earlier answers" if told.basis == "history" else "a guess: half of what answers may have"
        lines.append(f"about {dollars(told.expected)} ({basis}); in real time about {dollars(told.real_time)}")
    lines.append("nothing bounds it" if told.upper_bound is None else f"at most ${told.upper_bound.normalize():f}")
    for line in lines:
        click.echo(f"• {line}", err=True)
    return click.confirm("Send it?", err=True)


def _waited(job: Job) -> Status:
    try:
        return job.wait(progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        raise BatchError(
            f"interrupted; job {job.id[:8]} goes on at the provider. Go on with: llm-savings batch collect {job.id[:8]}"
        ) from None


def _opened(job: str, journal: str | None, ledger: str | None) -> Job:
    must_exist("--journal", journal)
    return open_job(job, journal=journal, meter=Meter(ledger) if ledger else None)


def _line(status: Status) -> str:
    parts = [f"{status.answered:,} of {status.requests:,} answered"]
    if status.running:
        parts.append(f"{status.running:,} more at the provider")
    return ", ".join(parts) + f", {told(status)}"


def _pair(tag: str) -> tuple[str, str]:
    key, found, value = tag.partition(":")
    if not found:
        raise click.BadParameter(f"{tag!r}; expected KEY:VALUE, as feature:reviews", param_hint="--tag")
    return key, value
