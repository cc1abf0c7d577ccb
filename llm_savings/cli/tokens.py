"""`llm-savings tokens`: what answers of a model cost in each form."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from llm_savings import Usage, tokens
from llm_savings.cli.shared import Console, imported, print_json, print_notes
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.pricing import PriceBook
from llm_savings.report import dollars
from llm_savings.report.tables import plain_table
from llm_savings.storage.tables import text_of, values_of
from llm_savings.structured import Sizes, Target, lean_schema, sizes
from llm_savings.structured.forms import compact_json
from llm_savings.structured.schema import is_object

_FORMS = {
    "prose": "prose",
    "pretty": "pretty JSON",
    "compact": "compact JSON",
    "short": "short keys",
    "columns": "columns",
}


@click.command(
    name="tokens",
    epilog="Example: llm-savings tokens shop.models:Review --sample reviews.jsonl --model gpt-4o-mini",
)
@click.argument("named", metavar="MODULE:MODEL")
@click.option("--sample", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Records, a line each.")
@click.option("--model", default="gpt-4o", show_default=True, help="Whose tokens and prices.")
@click.option("--each", is_flag=True, help="Every line is an answer of its own. Without it, all are one answer.")
@click.option(
    "--prose",
    "prose_key",
    metavar="KEY",
    default="prose",
    show_default=True,
    help="Where a line says the same in words.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def token_table(named: str, sample: Path, model: str, each: bool, prose_key: str, as_json: bool) -> None:
    """What the answers in a sample take as prose, as JSON and as columns: tokens, and USD per 1,000 calls."""
    kind = imported(named)
    records, prose = _read(kind, sample, prose_key)
    target, answers = Target(kind, many=not each), records if each else [records]
    encoding = tokens.encoding_name(model)
    found = [sizes(target, answer, encoding=encoding) for answer in answers]
    counts = {name: sum(getattr(one, name) for one in found) / len(found) for name in _FORMS if name != "prose"}
    if prose:
        counts = {"prose": sum(tokens.count(text, model) for text in prose) / len(found), **counts}
    lean, plain = lean_schema(kind), TypeAdapter(kind).json_schema()
    schema = {
        "pydantic": tokens.count(compact_json(plain), model),
        "lean": tokens.count(compact_json(lean.schema), model),
    }
    structure = _structure(found)
    per_thousand = {name: _cost(model, count) for name, count in counts.items()}
    if as_json:
        document = {
            "model": model,
            "encoding": encoding,
            "records": len(records),
            "answers": len(found),
            "structure": structure,
            "tokens": counts,
            "usd_per_1000_calls": {name: format(usd, "f") for name, usd in per_thousand.items()},
            "schema_tokens": schema,
            "strict": lean.strict,
            "why_not_strict": list(lean.loose),
        }
        print_json(document)
        return
    title = f"{len(records):,} records of {named}, {'each an answer' if each else 'in one answer'}, {model}"
    table = plain_table("", "output tokens an answer", "to compact JSON", "per 1,000 calls", title=title)
    for name, count in counts.items():
        table.add_row(
            _FORMS[name], f"{count:,.0f}", f"{count / counts['compact'] - 1:+.0%}", dollars(per_thousand[name])
        )
    console = Console()
    console.print(table)
    print_notes(
        console,
        (
            f"Beside the values themselves, columns take {structure:.0%} of what compact JSON takes.",
            f"The schema takes {schema['lean']:,} input tokens a call, {schema['pydantic']:,} as pydantic writes it.",
            "It can be strict." if lean.strict else f"It cannot be strict: {'; '.join(lean.loose)}.",
        ),
    )


def _read(kind: Any, path: Path, prose_key: str) -> tuple[list[Any], list[str]]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except PydanticUserError as error:
        raise ConfigError(f"MODULE:MODEL is a {type(kind).__name__}; expected a pydantic model") from error
    records: list[Any] = []
    prose: list[str] = []
    for number, entry in values_of(text_of(path)):
        try:
            if is_object(entry) and isinstance(entry.get(prose_key), str):
                prose.append(entry.pop(prose_key))
            records.append(adapter.validate_json(compact_json(entry)))
        except ValidationError as error:
            raise LogFormatError(
                f"{path} does not fit: {error.errors()[0]['msg']} at {error.errors()[0]['loc']}", number
            ) from error
    if not records:
        raise ConfigError(f"--sample {path} has no records; expected a JSON object a line")
    return records, prose


def _cost(model: str, output: float) -> Decimal:
    return PriceBook().price(Usage(output=round(output * 1000)), model)


def _structure(found: list[Sizes]) -> float:
    beside = sum(one.compact - one.values for one in found)
    return sum(one.columns - one.values for one in found) / beside if beside else 1.0
