"""Reports for people: tables in the terminal, HTML in a notebook."""

from llm_savings.report.budget_table import budget_notes, budget_table, budget_title
from llm_savings.report.budgets import BudgetState, Standing, budget_document, budget_states
from llm_savings.report.money import dollars, tokens
from llm_savings.report.notebook import html_table
from llm_savings.report.terminal import calls_table, notes, plain_text

__all__ = [
    "BudgetState",
    "Standing",
    "budget_document",
    "budget_notes",
    "budget_states",
    "budget_table",
    "budget_title",
    "calls_table",
    "dollars",
    "html_table",
    "notes",
    "plain_text",
    "tokens",
]
