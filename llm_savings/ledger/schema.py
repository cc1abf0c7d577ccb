"""The ledger's tables, their versions, and how an older file becomes a newer one."""

from __future__ import annotations

from llm_savings.errors import LedgerError
from llm_savings.usage import FIELDS

_TOKENS = ",\n  ".join(f"{name}_tokens BIGINT" for name in FIELDS)

COUNTERS = """CREATE TABLE IF NOT EXISTS budget_counters (
  key TEXT PRIMARY KEY,
  spent_pusd BIGINT NOT NULL,
  reserved_pusd BIGINT NOT NULL,
  alerted INTEGER NOT NULL
)"""

# One statement list a version; a new version is appended and never edits an older one. Written in the SQL that
# SQLite and PostgreSQL share; {id} is the only difference. A journal's name carries the version too: whoever appends a
# version that changes `records.COLUMNS` teaches the journal to read the files of the one before.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"""CREATE TABLE calls (
  id {{id}},
  call_id TEXT NOT NULL UNIQUE,
  host TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  provider TEXT,
  mode TEXT NOT NULL,
  stream SMALLINT NOT NULL,
  started_us BIGINT NOT NULL,
  bound_pusd BIGINT,
  tags TEXT,
  user_id TEXT,
  session_id TEXT,
  tenant TEXT,
  status TEXT NOT NULL DEFAULT 'sent',
  basis TEXT NOT NULL DEFAULT 'unknown',
  model TEXT,
  actual_pusd BIGINT,
  baseline_pusd BIGINT,
  strategies TEXT,
  response_id TEXT,
  error TEXT,
  latency_us BIGINT,
  {_TOKENS}
)""",
        "CREATE INDEX calls_started ON calls (started_us)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN reserved_pusd BIGINT",
        "ALTER TABLE calls ADD COLUMN budgets TEXT",  # the counters that the call is charged to, a JSON list
        COUNTERS,
        "CREATE TABLE budget_plans (name TEXT PRIMARY KEY, plan TEXT NOT NULL, pinned INTEGER NOT NULL)",
    ),
)

VERSION = len(MIGRATIONS)


def pending_migrations(version: int, where: str) -> list[str]:
    """The statements that bring a ledger of this version up to date.

    Raises:
        LedgerError: A newer llm-savings wrote it.
    """
    if version > VERSION:
        raise LedgerError(
            f"ledger {where} has schema version {version}, this llm-savings knows {VERSION}; upgrade llm-savings"
        )
    return [statement for step in MIGRATIONS[version:] for statement in step]
