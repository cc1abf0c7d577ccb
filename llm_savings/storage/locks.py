"""Locks on files that end with their process, whatever ends that."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock_now(handle: int) -> bool | None:
    """Take the lock of an open file, without waiting: whether it is ours now; None where files have no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
