"""The demo: a bundled workload through a real LangChain chain and a real LiteLLM Router, before and after."""

from llm_savings.demo.workload import Request, Workload, load

__all__ = ["Request", "Workload", "load"]
