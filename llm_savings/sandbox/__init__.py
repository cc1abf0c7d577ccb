"""A local provider for tests, demos and trying things out: OpenAI's and Anthropic's wire protocols on 127.0.0.1.

The real clients work against it unmodified, its answers are deterministic, it misbehaves on request, and it keeps
its own bill, computed apart from `llm_savings.pricing`. Needs `pip install "llm-savings[demo]"`.

Example:
    >>> from llm_savings.sandbox import Sandbox
    >>> with Sandbox() as box:
    ...     client = openai.OpenAI(base_url=box.openai_url, api_key="any")      # doctest: +SKIP
    ...     client.chat.completions.create(model="gpt-4o", messages=[...])      # doctest: +SKIP
    ...     print(box.bill().total)                                             # doctest: +SKIP
"""

from __future__ import annotations

from .bill import Bill, BillRow
from .sandbox import Sandbox
from .server import serve

__all__ = ["Bill", "BillRow", "Sandbox", "serve"]
