"""What the strategies would save: of past calls in logs, or of a scenario in shares, by a real ledger's arithmetic."""

from llm_savings.audit.article import Claim, article_claims
from llm_savings.audit.auditing import Audit, Span, audit
from llm_savings.audit.choices import ALL, Choices, tagged_to_wait
from llm_savings.audit.reading import Log, Unread, read_logs
from llm_savings.audit.records import Record
from llm_savings.audit.scenario import Range, Scenario

__all__ = [
    "ALL",
    "Audit",
    "Choices",
    "Claim",
    "Log",
    "Range",
    "Record",
    "Scenario",
    "Span",
    "Unread",
    "article_claims",
    "audit",
    "read_logs",
    "tagged_to_wait",
]
