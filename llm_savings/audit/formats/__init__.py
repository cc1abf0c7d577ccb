"""The formats that logs come in. A new one is a module beside these and a line here.

Where several fit an entry, the first of them reads it.
"""

from llm_savings.audit.formats import helicone, langfuse, langsmith, ledger, litellm, openai, otel
from llm_savings.audit.formats.shape import Format

FORMATS: tuple[Format, ...] = (
    ledger.FORMAT,
    litellm.PAYLOADS,
    litellm.SPEND_LOGS,
    langsmith.FORMAT,
    langfuse.FORMAT,
    helicone.FORMAT,
    otel.FORMAT,
    openai.BATCH_OUTPUT,
    openai.BATCH_INPUT,
    openai.CALLS,
)

__all__ = ["FORMATS", "Format"]
