"""The addresses of stores, and the passwords in them."""

from __future__ import annotations

import re
from urllib.parse import unquote

# By pattern and not by urlsplit, which overlooks a password with a raw "#", "/" or "?" in it and refuses one with "[".
_BEFORE_HOST = re.compile(r"^([^:]+://[^:@/?]*:)(?!\d*(?:[/?,]|$))(.*)@")
_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)([^&]*)", re.IGNORECASE)


def masked(target: str) -> str:
    """A path or URL without its password.

    Example:
        >>> masked("postgresql://me:secret@db/costs")
        'postgresql://me:***@db/costs'
    """
    if "://" not in target:
        return target
    return _IN_QUERY.sub(r"\1***", _BEFORE_HOST.sub(r"\1***@", target))


def passwords(url: str) -> list[str]:
    """The passwords in a URL, in the forms in which an error may repeat them."""
    found = [match[2] for pattern in (_BEFORE_HOST, _IN_QUERY) for match in pattern.finditer(url)]
    return [form for secret in found if secret for form in (secret, unquote(secret))]


def told(error: BaseException, url: str) -> str:
    """What an error about a URL says, without its passwords.

    Example:
        >>> told(OSError("no user me with password secret"), "postgresql://me:secret@db/costs")
        'no user me with password ***'
    """
    text = str(error).strip() or type(error).__name__
    for secret in passwords(url):
        text = text.replace(secret, "***")
    return text
