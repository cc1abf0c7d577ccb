"""Who caused a call, and for what: read from tags and metadata by one rule, whichever host handed them over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

USER_KEYS = ("user_api_key_end_user_id", "user_id", "user", "user_api_key_user_id")
"""Where metadata names the user. LiteLLM's proxy writes two of them: whom its client named, and whose key it is."""
SESSION_KEYS = ("session_id", "thread_id", "conversation_id", "trace_id")
"""Where metadata names the conversation."""
# Of metadata only these become labels: hosts and callers put keys in it that differ in every call.
_LABEL_KEYS = ("feature", "team", "project", "app", "environment", "customer")
NAMING = frozenset((*USER_KEYS, *SESSION_KEYS, *_LABEL_KEYS))
"""All keys under which metadata says who caused a call or for what. Most calls have none of them: one look tells."""
# What hosts add by themselves: LangChain and LangGraph say where in a chain a run is, LiteLLM what client and which
# credential were used. The whole shape counts, so that "branch:seoul" is still a label of the user's.
_HOSTS_OWN = re.compile(
    r"(?:seq|graph):step:.*|map:key:.*|condition:\d+|branch:(?:\d+|default)|retry:attempt:\d+|langsmith:.*|nostream"
    r"|User-Agent: .*|Credential: .*",
    re.DOTALL,
)
_SCALARS = (str, int, float, UUID)


def labels(tags: object, *sources: Mapping[str, Any]) -> dict[str, str]:
    """The labels of one call.

    A tag like "feature:faq" is a label. Plain tags together are the label `tags`, sorted and with commas between them;
    those that a host adds by itself are left out. Of metadata, `feature`, `team`, `project`, `app`, `environment` and
    `customer` are labels.

    Args:
        tags: The call's tags, if they are a list or tuple. They win over metadata.
        sources: Metadata; of two values for a key the later source's counts.

    Example:
        >>> labels(["feature:faq", "nightly", "beta", "seq:step:1"], {"team": "support", "run": 7})
        {'team': 'support', 'feature': 'faq', 'tags': 'beta,nightly'}
    """
    found: dict[str, str] = {}
    for source in sources:
        for key in _LABEL_KEYS:
            if key in source and (value := text(source, (key,))):
                found[key] = value
    plain: set[str] = set()
    for tag in cast("Sequence[object]", tags) if tags and isinstance(tags, list | tuple) else ():
        said = str(tag).strip()
        if _HOSTS_OWN.fullmatch(said):
            continue
        name, _, value = said.partition(":")
        if name and value:  # neither is blank: the ends of the whole are not
            found[name.rstrip()] = value.lstrip()
        elif said:
            plain.add(said)
    if plain:
        found["tags"] = ",".join(sorted(plain))
    return found


def text(source: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these keys that has a plain value, as text; anything else names nobody."""
    for key in keys:
        if key in source and isinstance(value := source[key], _SCALARS) and value != "":
            return str(value)
    return None
