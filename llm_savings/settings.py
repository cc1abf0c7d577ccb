"""The few settings that come from the environment, and where this machine keeps the package's files."""

from __future__ import annotations

import os
from pathlib import Path

_OFF = frozenset({"", "0", "false", "no", "off"})


def disabled() -> bool:
    """Whether `LLM_SAVINGS_DISABLED` turns every part of the package into a pass-through."""
    return os.environ.get("LLM_SAVINGS_DISABLED", "").strip().lower() not in _OFF


def default_ledger() -> str:
    """The ledger used when none is named: `LLM_SAVINGS_LEDGER`, or a file in the user's data folder."""
    if named := os.environ.get("LLM_SAVINGS_LEDGER"):
        return named
    import platformdirs  # not needed when the ledger is named

    return str(Path(platformdirs.user_data_dir("llm-savings", appauthor=False)) / "costs.db")
