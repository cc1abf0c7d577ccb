"""Batch jobs at half price that survive a crash: one interface over the providers' batch interfaces."""

from __future__ import annotations

from llm_savings.batch.inputs import InputError
from llm_savings.batch.job import Job, Status
from llm_savings.batch.journal import Journal
from llm_savings.batch.money import Estimate
from llm_savings.batch.outcomes import Answered, Failed, Outcome
from llm_savings.batch.schemas import answer_format
from llm_savings.batch.submit import Options, asubmit, erase_user, list_jobs, open_job, submit

__all__ = [
    "Answered",
    "Estimate",
    "Failed",
    "InputError",
    "Job",
    "Journal",
    "Options",
    "Outcome",
    "Status",
    "answer_format",
    "asubmit",
    "erase_user",
    "list_jobs",
    "open_job",
    "submit",
]
