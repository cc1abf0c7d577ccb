"""What a user writes, for a type checker to read; test_user_types.py runs it, nothing executes it."""

from datetime import timedelta
from decimal import Decimal
from typing import assert_type

from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from llm_savings import Budget, ComplexityRouter, CostCallback, Ledger, PriceBook, SemanticCache, Usage, track_costs
from llm_savings.attribution import Attribution, attribute
from llm_savings.batch import Job, submit
from llm_savings.langchain import RoutedChatModel, submit_batch, with_compact_output, with_prompt_caching
from llm_savings.litellm import ComplexityRouting, CostLogger, PromptCaching
from llm_savings.litellm import SemanticCache as LiteLLMCache
from llm_savings.prompt_cache import Memory, Plan, plan_breakpoints


class Review(BaseModel):
    mood: str


mini, big = ChatOpenAI(model="gpt-4o-mini"), ChatOpenAI(model="gpt-4o")

cost = CostCallback("costs.db", budget=Budget(daily="50", tz="Asia/Seoul"), tags={"feature": "faq"})
assert_type(cost.spent, Decimal)
assert_type(cost.saved, Decimal)
assert_type(cost.calls, int)
with track_costs("costs.db") as tracked:
    assert_type(tracked.spent, Decimal)

assert_type(PriceBook().price(Usage(input=1), "gpt-4o"), Decimal)
assert_type(attribute(Ledger("costs.db").calls()), Attribution)

SemanticCache("cache.db", max_error=0.01, ttl=timedelta(hours=24), shadow=True)
LiteLLMCache("cache.db", per="team", max_error=0.01)

model = RoutedChatModel(tiers={"simple": mini, "complex": big})
assert_type(with_prompt_caching(big), ChatOpenAI)
assert_type(ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"}).route("hi").model, str)
ComplexityRouting(tiers={"simple": "gpt-4o-mini", "complex": "gpt-4o"})
callbacks = [CostLogger("costs.db"), PromptCaching()]

assert_type(submit([{"messages": []}], model="gpt-4o-mini"), Job)
assert_type(plan_breakpoints([], [], "claude-sonnet-4-5", memory=Memory()), Plan)
reviews = with_compact_output(mini, Review, many=True).invoke("...")
handle = submit_batch(mini, ["a", "b"])
answers = handle.collect()
