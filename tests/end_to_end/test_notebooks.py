"""Each notebook runs from top to bottom, and is readable without running it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not [cell for cell in notebook.cells if _says_something_went_wrong(cell)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_can_be_read_without_running_it(path: Path) -> None:
    cells = nbformat.read(path, 4).cells
    assert cells[0].cell_type == "markdown" and "At the end you have" in cells[0].source
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) >= len(code) / 2
    assert not [cell for cell in code if _says_something_went_wrong(cell)]
    assert "/work/" not in str(code) and "/root/" not in str(code) and "/home/" not in str(code)


def _says_something_went_wrong(cell: object) -> bool:
    outputs = getattr(cell, "outputs", [])
    said = "".join(output.get("text", "") for output in outputs)
    return any(output.output_type == "error" for output in outputs) or "Traceback" in said or "Warning" in said
