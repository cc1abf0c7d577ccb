"""Every Python block of the documents runs as written, every command in them exists, every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from document_blocks import BLOCK, blocks

from llm_savings.cli.main import main
from llm_savings.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [path for path in DOCUMENTS if blocks(path)]


@pytest.fixture(scope="module")
def reader(_sandbox: Sandbox) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("document_blocks.py")), _sandbox.url]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes) as process:
        yield process


@pytest.mark.parametrize("document", WITH_CODE, ids=lambda path: path.name)
def test_the_python_blocks_run_as_written(
    document: Path, box: Sandbox, tmp_path: Path, reader: subprocess.Popen[str]
) -> None:
    assert reader.stdin and reader.stdout
    print(json.dumps([str(document), str(tmp_path)]), file=reader.stdin, flush=True)
    ended = reader.stdout.readline().strip()
    said = (tmp_path / "said.txt").read_text("utf-8")
    assert ended == "0", said[-3000:]
    assert f"{document.name}:" in said


def test_a_block_that_is_not_run_says_why() -> None:
    for document in DOCUMENTS:
        for found in BLOCK.finditer(document.read_text("utf-8")):
            assert found[1] is None or len(found[1]) > len("<!-- not run:  -->\n") + 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists_with_its_options(document: Path) -> None:
    text = document.read_text("utf-8")
    lines = re.findall(r"(?m)^\$? ?(llm-savings [^`\n\\]*?)(?:\s{3,}.*|\\)?$", "\n".join(_shell(text)))
    for line in (part for chained in lines for part in chained.split(" && ")):
        words = [word for word in shlex.split(line.split(" | ")[0]) if not word.startswith("#")][1:]
        command: click.Command = main
        while isinstance(command, click.Group) and words and (found := command.commands.get(words[0].split("|")[0])):
            command, words = found, words[1:]
        assert command is not main, line
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert {word.split("=")[0].strip("[]") for word in words if word.startswith(("--", "[--"))} <= known, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def _shell(text: str) -> list[str]:
    return re.findall(r"(?ms)^```\n(.*?)^```", text)


def test_the_configuration_page_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_reference.py"), "--check"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_variable_of_the_environment_is_documented() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "llm_savings").rglob("*.py"))
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert set(re.findall(r"LLM_SAVINGS_[A-Z_]*[A-Z]", code)) <= set(re.findall(r"LLM_SAVINGS_[A-Z_]*[A-Z]", page))
