"""What users may import, listed so that nothing comes or goes unnoticed; the documents import nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SURFACE = {
    "llm_savings": """
        BatchError Budget BudgetError BudgetExceededError CacheError ComplexityRouter ComplexityRouting ConfigError
        CostCallback Ledger LedgerError LogFormatError Meter PriceBook RecordError SavingsError SemanticCache
        StructuredOutputError UnknownModelError UnpricedError Usage UsageError __version__ track_costs
    """,
    "llm_savings.audit": """
        ALL Audit Choices Claim Log Range Record Scenario Span Unread article_claims audit read_logs tagged_to_wait
    """,
    "llm_savings.batch": """
        Answered Estimate Failed InputError Job Journal Options Outcome Status answer_format asubmit erase_user
        list_jobs open_job submit
    """,
    "llm_savings.embedding": """
        BundledEmbedder Embedder Script Word bundled_embedder
    """,
    "llm_savings.langchain": """
        BatchHandle BudgetMiddleware CompactFormatMiddleware CostCallback CostTracking PromptCachingMiddleware
        RoutedChatModel RoutingMiddleware SemanticCache cache_namespace compact_response_format open_batch
        submit_batch summarizer track_costs with_cached_streaming with_compact_output with_prompt_caching
    """,
    "llm_savings.ledger": """
        Basis By Call Host Ledger Line Mode Sent Settled Status day_start export last_days masked tenant_hash total
        zone
    """,
    "llm_savings.litellm": """
        ComplexityRouting CostLogger PromptCaching SemanticCache acompact_completion acompletion compact_completion
        completion open_batch router_from_config submit_batch
    """,
    "llm_savings.pricing": """
        Limits Line Override PriceBook Quote UnknownModelError UnpricedError update
    """,
    "llm_savings.prompt_cache": """
        Finding Mark Memory Place Plan Simulation Terms apply_plan lint plan_breakpoints simulate steady terms_of
    """,
    "llm_savings.reconcile": """
        KINDS Billed Export Figure Kind Line Reconciliation Verdict read_export reconcile
    """,
    "llm_savings.routing": """
        Capabilities ComplexityRouter Decision Rule Tier Verdict portable suffices
    """,
    "llm_savings.sandbox": """
        Bill BillRow Sandbox serve
    """,
    "llm_savings.semantic_cache": """
        AnswerCache Entry Hit Judge Lookup Miss Options Question Reading Refusal Request Settings Stats Which
        evidence_of last_lookup
    """,
    "llm_savings.structured": """
        Form Lean MaxWords Reading Sizes Target columnar count_words lean_schema read sizes smallest
    """,
}
# In a process of its own: the hosts leave their marks in the one that imports them.
PROGRAM = """
import json, sys
from importlib import import_module
found, wanted = {}, json.load(sys.stdin)
for name in wanted["modules"]:
    found[name] = sorted(import_module(name).__all__)
    [getattr(import_module(name), each) for each in found[name]]
wrong = []
for name, each in wanted["imports"]:
    module = import_module(name)
    if each not in getattr(module, "__all__", [said for said in dir(module) if said[0] != "_"]):
        wrong.append(f"{name}.{each}")
print(json.dumps([found, wrong]))
"""


def written() -> Iterator[str]:
    """What the documents and notebooks say."""
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        yield path.read_text("utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        yield "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"])


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import of ours in a text."""
    for found in re.finditer(r"^\s*from (llm_savings[\w.]*) import (\([^)]*\)|[^\n#]+)", text, re.MULTILINE):
        for name in re.findall(r"\w+", re.sub(r"\bas \w+", "", found[2])):
            yield found[1], name


def test_the_surface_is_what_is_listed_and_holds_all_that_the_documents_import() -> None:
    imports = sorted({pair for text in written() for pair in imported(text)})
    assert len(imports) > 40
    asked = json.dumps({"modules": list(SURFACE), "imports": imports})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=asked, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, wrong = json.loads(done.stdout.splitlines()[-1])
    assert found == {module: sorted(names.split()) for module, names in SURFACE.items()}
    assert not wrong, "the documents import what is not public"
