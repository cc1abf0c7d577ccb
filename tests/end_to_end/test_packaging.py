"""The wheel and the sdist, built and installed where nothing of ours is, and used there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20

SMOKE = """
import sys
from decimal import Decimal
import llm_savings
assert "site-packages" in llm_savings.__file__, llm_savings.__file__
assert not {"litellm", "langchain_core"} & set(sys.modules)
from llm_savings import ComplexityRouter, CostCallback, Ledger, PriceBook, SemanticCache, Usage
assert PriceBook().price(Usage(input=1_000_000), "gpt-4o-mini") == Decimal("0.15")
assert ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"}).route("파이썬이 뭐야?").tier == "simple"
cache = SemanticCache()
cache.close()
assert CostCallback(":memory:").calls == 0
import llm_savings.litellm, llm_savings.batch, llm_savings.prompt_cache, llm_savings.structured
llm_savings.litellm.CostLogger(":memory:"), llm_savings.litellm.PromptCaching()
try:
    llm_savings.litellm.SemanticCache()
except llm_savings.ConfigError as error:  # LiteLLM's cache wants more than LiteLLM installs
    assert "pip install" in str(error)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"llm_savings"}
    assert {"llm_savings/py.typed", "llm_savings/data/prompt_cache_rules.toml"} <= set(names)
    assert not [name for name in names if name.endswith((".db", ".pyc", ".ipynb"))]
    weights = sum(info.file_size for info in zipfile.ZipFile(wheel).infolist() if "/weights" in info.filename)
    assert 0 < weights < 20 * MEGABYTE


def test_the_sdist_has_what_is_needed_to_build_and_to_read(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"README.md", "README.ko.md", "LICENSE", "Makefile", "pyproject.toml", "tests/conftest.py"} <= names


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_installs_and_works_in_a_clean_environment(
    version: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CACHE_DIR", str(built / "pip"))  # for all versions: most of it is the same
    python = _interpreter(version)
    subprocess.run([python, "-m", "venv", str(tmp_path / "env")], check=True, timeout=120)
    bin_folder = tmp_path / "env" / "bin"
    pip = [str(bin_folder / "python"), "-m", "pip", "--disable-pip-version-check"]
    if subprocess.run(
        [*pip, "download", "-q", "--no-deps", "click", "-d", str(tmp_path / "try")], check=False
    ).returncode:
        pytest.skip("no package index can be reached")
    (wheel,) = built.glob("*.whl")
    done = subprocess.run(
        [*pip, "install", "-q", "--no-compile", str(wheel)], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LLM_SAVINGS", "VIRTUAL"))
    }
    clean |= {"HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    for command in (
        [str(bin_folder / "python"), "-c", SMOKE],
        [str(bin_folder / "llm-savings"), "--version"],
        [str(bin_folder / "llm-savings"), "prices", "gpt-4o", "--json"],
        [str(bin_folder / "llm-savings"), "scenario", "--article"],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env=clean, cwd=tmp_path
        )
        assert done.returncode == 0, f"{command[1:]}: {done.stderr[-2000:]}"


def _interpreter(version: str) -> str:
    """A Python of this version that starts, or a skip."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in filter(None, [shutil.which(f"python{version}"), *map(str, kept)]):
        if subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return found
    pytest.skip(f"there is no Python {version}")
