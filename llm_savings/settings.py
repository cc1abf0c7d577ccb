"""The few settings that come from the environment, and where this machine keeps the package's files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

_OFF = frozenset({"", "0", "false", "no", "off"})
# The switch is looked for in every call, and nearly always it is not there: `os.environ` would raise and catch two
# exceptions each time, so it is asked only where the dict that it wraps has the name.
_KEPT: Any = os.environ._data  # type: ignore[attr-defined]
_SWITCH = os.environ.encodekey("LLM_SAVINGS_DISABLED")


def disabled() -> bool:
    """Whether `LLM_SAVINGS_DISABLED` turns every part of the package into a pass-through."""
    return _SWITCH in _KEPT and _is_on("LLM_SAVINGS_DISABLED")


def shadow() -> bool:
    """Whether `LLM_SAVINGS_SHADOW` makes a strategy decide and record, and change nothing; read when one is made."""
    return _is_on("LLM_SAVINGS_SHADOW")


@contextmanager
def unswitched() -> Generator[None]:
    """Within it neither switch holds: what only tries out how things would be, as an audit does, changes nothing."""
    before = _UNSWITCHED.set(True)
    try:
        yield
    finally:
        _UNSWITCHED.reset(before)


_UNSWITCHED: ContextVar[bool] = ContextVar("llm_savings_unswitched", default=False)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in _OFF and not _UNSWITCHED.get()


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
    return _machine_key(os.environ.get("XDG_DATA_HOME"))


@lru_cache(maxsize=2)  # read once: it is asked for in every call, and what it hashes takes a tenth of reading it
def _machine_key(_data_home: str | None) -> bytes:
    import platformdirs

    folder = Path(platformdirs.user_data_dir("llm-savings", appauthor=False))
    path = folder / "hash.key"
    with suppress(FileNotFoundError):
        return path.read_bytes()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name that no other thread or process has: a second writer of the same file would change the key it linked.
    fresh = folder / f"hash.key.{secrets.token_hex(8)}"
    fresh.touch(mode=0o600, exist_ok=False)
    try:
        fresh.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(fresh, path)  # only the first one wins, and never with half a key
    finally:
        fresh.unlink()
    return path.read_bytes()
