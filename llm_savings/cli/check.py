"""`llm-savings check`."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from llm_savings.cli.shared import Console, print_json

_SIGNS = {"on": ("✓", "green"), "shadow": ("◐", "cyan"), "off": ("–", "dim"), "warning": ("!", "yellow")}


@click.command(
    epilog="Example: llm-savings check config.yaml. The exit status is 1 when something is wrong; a warning is not."
)
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("options", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of part, state and what is said of it.")
def check(config: Path, options: Path | None, as_json: bool) -> None:
    """Say what will be on in LiteLLM's proxy with CONFIG, and what is wrong with it.

    CONFIG is the proxy's config.yaml, whose llm_savings.yaml is found as the proxy finds it or given as OPTIONS; or
    llm_savings.yaml alone. Nothing is started or created, and no model is called.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # LiteLLM fetches its prices when it is loaded
    from llm_savings.litellm.proxy.checking import check as checked  # loads LiteLLM

    found = checked([config] if options is None else [config, options])
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for finding in found:
            sign, style = _SIGNS.get(finding.state, ("✗", "bold red"))
            table.add_row(Text(sign, style), Text(finding.part), Text(finding.state, style), Text(finding.says))
        Console().print(table)
    if any(finding.state == "wrong" for finding in found):
        sys.exit(1)
