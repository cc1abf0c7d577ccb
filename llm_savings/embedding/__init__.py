"""Embedders: what the cache asks of one, and the bilingual one in the wheel."""

from __future__ import annotations

from llm_savings.embedding.bundled import BundledEmbedder, Word, bundled_embedder
from llm_savings.embedding.protocol import Embedder
from llm_savings.embedding.text import Script

__all__ = ["BundledEmbedder", "Embedder", "Script", "Word", "bundled_embedder"]
