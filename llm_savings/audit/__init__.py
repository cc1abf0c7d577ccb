"""What the strategies would save: of a scenario in shares, by the same arithmetic as a real ledger's."""

from llm_savings.audit.article import Claim, article_claims
from llm_savings.audit.scenario import Range, Scenario

__all__ = ["Claim", "Range", "Scenario", "article_claims"]
