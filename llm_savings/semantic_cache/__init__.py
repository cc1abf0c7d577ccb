"""Answers to questions that were asked before, in the same words or in others: exact scope first, then meaning."""

from __future__ import annotations
