"""What compact answers save, and what reading them takes: `python tests/benchmarks/bench_structured.py [round trips]`.

Five schemas of 20 records (tests/unit/structured_samples.py), counted with o200k_base and cl100k_base. With a number,
so many generated models and values are written and read back in every form as well.
"""

from __future__ import annotations

import json
import sys
import timeit
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from structured_samples import ARTICLE, ARTICLE_SENTENCE, SAMPLES

from llm_savings.structured import Target, lean_schema, read, sizes, smallest
from llm_savings.structured.forms import compact_json
from llm_savings.tokens import encoding

ENCODINGS = ("o200k_base", "cl100k_base")


def table(title: str, *heads: str) -> Table:
    made = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        made.add_column(head, justify="right" if number else "left", no_wrap=True)
    return made


def answers(console: Console) -> None:
    for name in ENCODINGS:
        shown = table(
            f"20 records, {name}", "", "pretty", "compact", "short", "columns", "saved", "structure to compact"
        )
        for title, (model, records, nested) in SAMPLES.items():
            found = sizes(Target(model, many=True), records, encoding=name)
            limit = 0.5 if nested else 0.4
            shown.add_row(
                title,
                *(f"{count:,}" for count in (found.pretty, found.compact, found.short, found.columns)),
                f"{found.saved:.0%}",
                f"{found.structure:.0%} (limit {limit:.0%})",
            )
        console.print(shown)


def schemas(console: Console) -> None:
    from openai.lib._pydantic import to_strict_json_schema

    heads = ("", "pydantic", "openai's client", "lean", "to pydantic", "to the client", "strict at")
    shown = table("Schemas, input tokens (o200k_base)", *heads)
    for title, (model, _, _) in SAMPLES.items():
        plain = tokens(compact_json(model.model_json_schema()))
        client = tokens(compact_json(to_strict_json_schema(model)))
        lean = tokens(compact_json(lean_schema(model).schema))
        strict = [p for p in ("openai", "anthropic") if lean_schema(model, provider=p).strict]
        fewer = (f"-{1 - lean / plain:.1%}", f"-{1 - lean / client:.1%}")
        shown.add_row(title, str(plain), str(client), str(lean), *fewer, ", ".join(strict))
    console.print(shown)


def article(console: Console) -> None:
    shown = table("The article's answer about a review", "", *ENCODINGS)
    form = smallest(Target(type(ARTICLE)), ARTICLE)
    rows = {
        "compact": form.write(ARTICLE),
        "short keys": smallest(Target(type(ARTICLE)), ARTICLE, short=True).write(ARTICLE),
        "one sentence with the same facts": ARTICLE_SENTENCE,
    }
    for title, text in rows.items():
        shown.add_row(title, *(str(tokens(text, name)) for name in ENCODINGS))
    for prose in (100, 150, 200):
        saved = (f"-{1 - tokens(rows['compact'], name) / prose:.0%}" for name in ENCODINGS)
        shown.add_row(f"compact to prose of {prose} tokens", *saved)
    one = (f"-{1 - tokens(rows['compact'], name) / tokens(ARTICLE_SENTENCE, name):.0%}" for name in ENCODINGS)
    shown.add_row("compact to the sentence", *one)
    console.print(shown)


def reading(console: Console) -> None:
    shown = table(
        "Reading an answer of 20 records, ms (best of 5)", "", "pydantic, compact JSON", "ours, columns", "ratio"
    )
    for title, (model, records, _) in SAMPLES.items():
        target = Target(model, many=True)
        form = smallest(target, records)
        text, plain = form.write(records), compact_json(target.dumped(records))
        assert read(form, text).value == records
        peer = min(timeit.repeat(lambda t=target, p=plain: t.adapter.validate_json(p), number=200, repeat=5)) * 5
        ours = min(timeit.repeat(lambda f=form, t=text: read(f, t), number=200, repeat=5)) * 5
        shown.add_row(title, f"{peer:.3f}", f"{ours:.3f}", f"{ours / peer:.1f}x")
    console.print(shown)


def round_trips(many: int) -> None:
    from hypothesis import HealthCheck, given, settings
    from structured_models import cases, same

    seen = {"models": 0, "answers": 0}

    @given(cases())
    @settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def trip(case: object) -> None:
        model, objects = case  # type: ignore[misc]
        target = Target(model, many=True)
        seen["models"] += 1
        for short in (False, True):
            for form in target.forms(short=short):
                for one in (form, *target.kept(form)):
                    seen["answers"] += 1
                    found = read(one, one.write(objects))
                    assert found.fault is None and same(found.value, objects), (one.name, found.says)

    trip()
    print(f"{seen['models']:,} generated models with values, {seen['answers']:,} answers written and read: 0 wrong")


def tokens(text: str, name: str = "o200k_base") -> int:
    return len(encoding(name).encode_ordinary(text))


def main() -> None:
    console = Console(width=120)
    answers(console)
    schemas(console)
    article(console)
    reading(console)
    escaped = json.dumps([record.model_dump(mode="json") for record in SAMPLES["Korean reviews"][1]])
    plain = compact_json([record.model_dump(mode="json") for record in SAMPLES["Korean reviews"][1]])
    print(f"Escapes on the Korean reviews: {tokens(escaped) / tokens(plain) - 1:+.0%} tokens.")
    if len(sys.argv) > 1:
        round_trips(int(sys.argv[1]))


if __name__ == "__main__":
    main()
