"""The append-only record of calls: SQLite by default, PostgreSQL when given a URL."""

from llm_savings.ledger.export import export
from llm_savings.ledger.ledger import Ledger, tenant_hash
from llm_savings.ledger.records import Basis, Call, Host, Mode, Sent, Settled, Status
from llm_savings.ledger.summary import By, Line, day_start, last_days, total, zone
from llm_savings.storage.urls import masked

__all__ = [
    "Basis",
    "By",
    "Call",
    "Host",
    "Ledger",
    "Line",
    "Mode",
    "Sent",
    "Settled",
    "Status",
    "day_start",
    "export",
    "last_days",
    "masked",
    "tenant_hash",
    "total",
    "zone",
]
