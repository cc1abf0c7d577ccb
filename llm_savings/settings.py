"""The few settings that come from the environment, and where this machine keeps the package's files."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
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


def state_folder() -> str:
    """Where this machine keeps what it could not yet deliver."""
    import platformdirs

    return platformdirs.user_state_dir("llm-savings", appauthor=False)


def hash_key() -> bytes:
    """The key that turns tenant names and API keys into hashes.

    `LLM_SAVINGS_HASH_KEY` where machines must agree, else 32 random bytes kept in the user's data folder (0600).
    """
    if named := os.environ.get("LLM_SAVINGS_HASH_KEY"):
        return named.encode()
    import platformdirs

    folder = Path(platformdirs.user_data_dir("llm-savings", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "hash.key"
    with suppress(FileExistsError):
        fresh = folder / f"hash.key.{os.getpid()}"
        handle = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.write(handle, secrets.token_bytes(32))
        os.close(handle)
        try:
            os.link(fresh, path)  # only the first process wins, and never with half a key
        finally:
            fresh.unlink()
    return path.read_bytes()
