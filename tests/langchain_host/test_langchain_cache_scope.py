"""What may share an answer, and what may not: everything that LangChain's own key hides is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_checks import Way, ainvoke, anthropic, batch, invoke, litellm_openai, openai, responses
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import LLM, SimpleChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_litellm import ChatLiteLLM
from pydantic import BaseModel, Field, PrivateAttr

from llm_savings.langchain import SemanticCache, cache_namespace
from llm_savings.langchain.cache_requests import Calling
from llm_savings.sandbox import Sandbox
from llm_savings.semantic_cache import Question, Which

ASKED = "Extract: Ann is 30"
PIXEL = "data:image/png;base64,iVBORw0KGgo{}AAAA="


@pytest.fixture
def cache() -> SemanticCache:
    cache = SemanticCache(tools=True)
    set_llm_cache(cache)
    return cache


def schema(**fields: Any) -> type[BaseModel]:
    """A class of the same name, module and text, whatever its fields are."""
    made = type(
        "P",
        (BaseModel,),
        {"__annotations__": {k: v for k, (v, _) in fields.items()}} | {k: f for k, (_, f) in fields.items()},
    )
    made.__module__ = __name__
    return made


NAMED = schema(name=(str, Field(description="who")))
AGED = schema(age=(int, Field(description="how old")))
TOLD = schema(name=(str, Field(description="who, in capitals")))


@pytest.mark.parametrize("client", [openai, responses])
@pytest.mark.parametrize("way", [invoke, ainvoke])
async def test_schemas_of_one_name_are_told_apart(client: Any, way: Way, box: Sandbox, cache: SemanticCache) -> None:
    """ChatOpenAI's `json_schema` leaves only `<class 'mod.P'>` in LangChain's key."""
    for number, kind in enumerate((NAMED, AGED, TOLD), 1):
        for _ in range(2):
            (found,) = await way(client(box).with_structured_output(kind, method="json_schema"), [ASKED], {})
            assert isinstance(found, kind)
            assert box.requests() == number


async def test_the_same_schema_in_another_class_is_the_same(box: Sandbox, cache: SemanticCache) -> None:
    again = schema(name=(str, Field(description="who")))
    openai(box).with_structured_output(NAMED, method="json_schema").invoke(ASKED)
    assert isinstance(openai(box).with_structured_output(again, method="json_schema").invoke(ASKED), again)
    assert box.requests() == 1


@pytest.mark.parametrize("way", [invoke, ainvoke, batch])
@pytest.mark.parametrize("client", [openai, anthropic, litellm_openai])
async def test_copies_and_changes_of_a_model_are_told_apart(
    client: Any, way: Way, box: Sandbox, cache: SemanticCache
) -> None:
    """LangChain keeps an old `_serialized` through `model_copy` and assignment (langchain#39598)."""
    model = client(box, temperature=0.0)
    await way(model, [ASKED], {})
    await way(model.model_copy(update={"temperature": 0.5}), [ASKED], {})
    assert box.requests() == 2
    model.temperature = 0.7
    await way(model, [ASKED], {})
    assert box.requests() == 3
    await way(client(box, temperature=0.5), [ASKED], {})
    assert box.requests() == 3


async def test_everything_of_chatlitellm_counts(box: Sandbox, cache: SemanticCache) -> None:
    """Its `_identifying_params` leave out max_tokens, api_base, model_kwargs, headers and more."""
    models: list[ChatLiteLLM] = [
        litellm_openai(box),
        litellm_openai(box, max_tokens=500),
        litellm_openai(box, api_base=box.openai_url + "/"),
        litellm_openai(box, model_kwargs={"seed": 7}),
        litellm_openai(box, extra_headers={"x-tenant": "b"}),
        litellm_openai(box, api_key="y"),
    ]
    for model in [*models, *models]:
        model.invoke(ASKED)
    assert box.requests() == len(models)


class Own(SimpleChatModel):
    """A model of somebody's own that says nothing of what identifies it."""

    size: int = 3
    tool: Any = None
    _style: str = PrivateAttr("plain")
    asked: list[str] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "own"

    def _call(self, messages: list[BaseMessage], *given: Any, **named: Any) -> str:
        CALLS.append(messages[-1].text)
        return "x"


CALLS: list[str] = []


async def test_models_that_do_not_identify_themselves_are_told_apart(cache: SemanticCache) -> None:
    CALLS.clear()
    other = Own()
    other._style = "fancy"
    models = [Own(), Own(size=4), other, type("Own", (Own,), {"__module__": __name__, "__qualname__": "Other"})()]
    for model in [*models, *models]:
        model.invoke("hello")
    assert len(CALLS) == len(models)


async def test_what_cannot_be_told_apart_is_not_cached_and_counted(
    cache: SemanticCache, caplog: pytest.LogCaptureFixture
) -> None:
    CALLS.clear()
    for model in (Own(tool=object()), Own(tool=lambda: 1)):
        model.invoke("hello")
        model.invoke("hello")
    openai_like = Own().bind(tools=[lambda: 1])
    openai_like.invoke("hello")
    assert len(CALLS) == 5
    assert cache.stats().misses == {"opaque tool": 4, "opaque call.tools": 1}
    assert caplog.text.count("opaque tool") == caplog.text.count("opaque call.tools") == 1


@pytest.mark.parametrize("way", [invoke, ainvoke, batch])
@pytest.mark.parametrize("client", [openai, anthropic, litellm_openai])
async def test_api_keys_are_tenants_and_are_not_stored(
    client: Any, way: Way, box: Sandbox, cache: SemanticCache
) -> None:
    """They are not in LangChain's key, so that tenants share."""
    for number, key in enumerate(("sk-secret-a", "sk-secret-b"), 1):
        for _ in range(2):
            await way(client(box, api_key=key), [ASKED], {})
            assert box.requests() == number
    assert "sk-secret" not in repr(list(cache.answers.entries(Which())))


async def test_namespaces_do_not_meet(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)
    for number, name in enumerate(("tenant-a", "tenant-b"), 1):
        for _ in range(2):
            with cache_namespace(name):
                model.invoke(ASKED)
                await model.ainvoke(ASKED)
                await model.abatch([ASKED, ASKED])
            model.invoke(ASKED, config={"metadata": {"cache_namespace": name}})
            await model.ainvoke(ASKED, config={"metadata": {"cache_namespace": name}})
            assert box.requests() == number
    model.invoke(ASKED)
    assert box.requests() == 3
    assert {entry.namespace for entry in cache.answers.entries(Which())} == {"", "tenant-a", "tenant-b"}


async def test_who_asked_is_kept_as_a_hash_and_is_not_the_scope(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)
    for user in ("kim", "lee"):
        model.invoke(ASKED, config={"metadata": {"user_id": user, "session_id": user}, "tags": [user]})
    assert box.requests() == 1
    (entry,) = cache.answers.entries(Which())
    assert entry.user is not None and "kim" not in repr(entry)
    cache.clear(user=entry.user)
    assert list(cache.answers.entries(Which())) == []


@tool
def order_status(order_id: str) -> str:
    """Where an order is."""
    return order_id


@tool("order_status")
def order_status_2(order_id: Annotated[str, "with its prefix"]) -> str:
    """Where an order of last year is."""
    return order_id


@tool
def refund(order_id: str) -> str:
    """Give the money back."""
    return order_id


def turn(call_id: str = "call_1", args: Any = None, result: str = "on its way", **ai: Any) -> list[BaseMessage]:
    calls = [{"name": "order_status", "args": args or {"order_id": "17"}, "id": call_id, "type": "tool_call"}]
    return [
        HumanMessage("Where is order 17?"),
        AIMessage("", tool_calls=calls, **ai),
        ToolMessage(result, tool_call_id=call_id),
        AIMessage("It is on its way."),
        HumanMessage("Thanks. And now?"),
    ]


def shown(*blocks: Any) -> list[BaseMessage]:
    return [HumanMessage([{"type": "text", "text": "What is this?"}, *blocks])]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


Q = HumanMessage("Hello?")
RAN = {
    "response_metadata": {"id": "x", "logprobs": 1},
    "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
}


def question(messages: Any = (Q,), model: Any = None, stop: Any = None, **bound: Any) -> Question | str:
    """The call as the cache sees it. Built without LangChain, so many can be compared; others go all the way."""
    cache = SEEING
    call = Calling(model or MODEL, list(messages), stop, bound)
    found = cache.answers.question(call.request(""))
    return found if isinstance(found, Question) else found.reason


def tools(*given: Any) -> dict[str, Any]:
    return MODEL.bind_tools(list(given)).kwargs


def _model(**given: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(**{"model": "gpt-4o-mini", "base_url": "http://127.0.0.1:9", "api_key": "x"} | given)


SEEING = SemanticCache(tools=True, max_temperature=2)
MODEL = _model()

SEPARATE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": _model(model="gpt-4o")}),
    ({}, {"model": _model(temperature=0)}),
    ({"model": _model(temperature=0)}, {"model": _model(temperature=0.2)}),
    ({}, {"model": _model(top_p=0.5)}),
    ({}, {"model": _model(seed=1)}),
    ({}, {"model": _model(max_tokens=10)}),
    ({}, {"model": _model(base_url="http://127.0.0.1:10")}),
    ({}, {"model": _model(organization="o")}),
    ({}, {"model": _model(extra_body={"a": 1})}),
    ({}, {"model": _model(model_kwargs={"logit_bias": {"1": 2}})}),
    ({}, {"model": _model(default_headers={"x": "y"})}),
    ({}, {"model": _model(reasoning_effort="low")}),
    ({}, {"model": _model(use_responses_api=True)}),
    ({}, {"model": _model(output_version="v1")}),
    ({}, {"model": _model(n=2)}),
    ({}, {"temperature": 0.1}),
    ({}, {"stop": ["#"]}),
    ({}, {"response_format": {"type": "json_object"}}),
    ({}, tools(order_status)),
    (tools(order_status), tools(refund)),
    (tools(order_status), tools(order_status_2)),
    (tools(order_status), tools(order_status, refund)),
    (tools(order_status), tools(order_status) | {"tool_choice": "required"}),
    ({}, {"messages": [SystemMessage("Be brief."), Q]}),
    ({"messages": [SystemMessage("Be brief."), Q]}, {"messages": [SystemMessage("Be long."), Q]}),
    ({"messages": [SystemMessage("Be brief."), Q]}, {"messages": [HumanMessage("Be brief."), Q]}),
    (
        {"messages": [SystemMessage("Be brief.", additional_kwargs={"__openai_role__": "developer"}), Q]},
        {"messages": [SystemMessage("Be brief."), Q]},
    ),
    ({}, {"messages": [HumanMessage("Hi"), AIMessage("Hello"), Q]}),
    ({}, {"messages": [HumanMessage("Hello?", name="ann")]}),
    ({"messages": turn()}, {"messages": turn(args={"order_id": "18"})}),
    ({"messages": turn()}, {"messages": turn(result="lost")}),
    (
        {"messages": turn()[:3]},
        {"messages": [*turn()[:2], ToolMessage("on its way", tool_call_id="call_1", status="error")]},
    ),
    ({"messages": shown(image(PIXEL.format("a")))}, {"messages": shown(image(PIXEL.format("b")))}),
    ({"messages": shown(image(PIXEL.format("a")))}, {"messages": shown()}),
    (
        {"messages": shown({"type": "image", "source_type": "id", "id": "file-a"})},
        {"messages": shown({"type": "image", "source_type": "id", "id": "file-b"})},
    ),
    (
        {"messages": shown({"type": "file", "file_id": "file-a"})},
        {"messages": shown({"type": "file", "file_id": "file-b"})},
    ),
]

SHARED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": _model(timeout=5, max_retries=7)}),
    ({}, {"model": _model(callbacks=[BaseCallbackHandler()], tags=["a"], metadata={"a": 1}, verbose=True, name="n")}),
    ({}, {"model": _model(streaming=True, stream_usage=True, cache=True)}),
    ({}, {"model": _model(custom_get_token_ids=len, disable_streaming=True)}),
    ({}, {"timeout": 3, "prompt_cache_key": "k", "service_tier": "flex", "metadata": {"a": "b"}}),
    ({}, {"messages": [HumanMessage("Hello?", id="1", response_metadata={"a": 1})]}),
    ({}, {"messages": [HumanMessage([{"type": "text", "text": "Hello?", "id": "lc_1"}])]}),
    ({"messages": turn()}, {"messages": turn(call_id="call_2", id="run-1", **RAN)}),
    (
        {"messages": turn()},
        {"messages": turn(additional_kwargs={"tool_calls": [{"id": "call_9", "function": {}}], "refusal": None})},
    ),
    ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
]


def test_none_of_these_share_an_answer() -> None:
    for one, other in SEPARATE:
        first, second = question(**one), question(**other)
        assert isinstance(first, Question) and isinstance(second, Question), (one, other, first, second)
        assert first.scope != second.scope, (one, other)


def test_all_of_these_share_their_answers() -> None:
    for one, other in SHARED:
        first, second = question(**one), question(**other)
        assert isinstance(first, Question) and isinstance(second, Question), (one, other, first, second)
        assert first.id == second.id, (one, other)


@pytest.mark.parametrize(
    ("reason", "asked"),
    [
        ("image by reference", {"messages": shown(image("https://example.com/today.png"))}),
        ("image by reference", {"messages": shown({"type": "image", "source_type": "url", "url": "https://a/b.png"})}),
        ("no user turn", {"messages": [SystemMessage("Be brief.")]}),
        ("temperature", {"model": _model(temperature=2.5)}),
        ("temperature", {"temperature": 2.5}),
        ("temperature", {"model": _model(model_kwargs={"top_k": 1}), "temperature": 2.5}),
        ("opaque call.tools", {"tools": [object()]}),
    ],
)
def test_some_are_not_cached(reason: str, asked: dict[str, Any]) -> None:
    assert question(**asked) == reason


CHANGES: list[Callable[[dict[str, Any], str], None]] = [
    lambda asked, value: asked.update(model=MODEL.model_copy(update={"model_name": value})),
    lambda asked, value: asked.update(user=value),
    lambda asked, value: asked.update(stop=[value]),
    lambda asked, value: asked.update(tools=[{"type": "function", "function": {"name": value}}]),
    lambda asked, value: asked.update(messages=[SystemMessage(value), *asked["messages"]]),
    lambda asked, value: asked.update(messages=[HumanMessage(value), AIMessage("Hm."), *asked["messages"]]),
    lambda asked, value: asked.update(messages=[*asked["messages"][:-1], HumanMessage("Hello?", name=value)]),
    lambda asked, value: asked.update(response_format={"type": value}),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, len(CHANGES) - 1), st.text(min_size=1, max_size=4)), max_size=3),
    st.lists(st.tuples(st.integers(0, len(CHANGES) - 1), st.text(min_size=1, max_size=4)), max_size=3),
)
def test_changes_share_an_answer_only_if_they_come_to_the_same(one: list[Any], other: list[Any]) -> None:
    found: list[Question] = []
    forms: list[str] = []
    for changes in (one, other):
        asked: dict[str, Any] = {"messages": [Q]}
        for which, value in changes:
            CHANGES[which](asked, value)
        seen = question(**asked)
        assert isinstance(seen, Question)
        found.append(seen)
        model = asked.pop("model", MODEL)
        forms.append(
            repr((model.model_name, asked["messages"], sorted((k, v) for k, v in asked.items() if k != "messages")))
        )
    assert (found[0].scope == found[1].scope) == (forms[0] == forms[1])


async def test_plain_llms_count_their_parameters_too(cache: SemanticCache) -> None:
    """LangChain's key of a plain LLM leaves out what is given at the call."""
    CALLS.clear()

    class Plain(LLM):
        size: int = 1

        @property
        def _llm_type(self) -> str:
            return "plain"

        def _call(self, prompt: str, *given: Any, **named: Any) -> str:
            CALLS.append(prompt)
            return f"{prompt} {self.size} {named.get('top_k')}"

    for _ in range(2):
        answers = [
            Plain().invoke("q"),
            Plain(size=2).invoke("q"),
            Plain().bind(top_k=3).invoke("q"),
            await Plain().bind(top_k=4).ainvoke("q"),
        ]
        assert answers == ["q 1 None", "q 2 None", "q 1 3", "q 1 4"]
    assert len(CALLS) == 4
