"""`llm-savings sandbox`."""

from __future__ import annotations

from contextlib import suppress

import click


@click.command(
    epilog="Example: llm-savings sandbox --port 8787, then OPENAI_BASE_URL=http://127.0.0.1:8787/v1 your-program"
)
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option(
    "--latency", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds before an answer begins."
)
@click.option("--seed", default=0, show_default=True, help="Another seed, other answers to unknown prompts.")
@click.option("--knowledge", type=click.Path(exists=True, dir_okay=False), help="JSON lines of prompts and answers.")
@click.option("--bill", type=click.Path(dir_okay=False), help="Save the bill here at the end, for reconcile.")
def sandbox(port: int, latency: float, seed: int, knowledge: str | None, bill: str | None) -> None:
    """Run a local provider that speaks the OpenAI and Anthropic protocols and keeps its own bill."""
    from llm_savings.sandbox import serve

    def ready(url: str) -> None:
        click.echo(f"OpenAI     base_url  {url}/v1")
        click.echo(f"Anthropic  base_url  {url}")
        click.echo(f"Its bill             {url}/_sandbox/bill")
        click.echo("Any key will do. Stop with Ctrl+C.")

    with suppress(KeyboardInterrupt):
        serve(port=port, latency=latency, seed=seed, knowledge=knowledge, bill=bill, on_ready=ready)
    click.echo(f"Ended. The bill is in {bill}." if bill else "Ended.")
