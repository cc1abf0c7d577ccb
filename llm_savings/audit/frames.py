"""Values on their way through a pipe or a temporary file: JSON, with bytes beside it."""

from __future__ import annotations

import json
import os
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any

import orjson

_HEAD = struct.Struct("<BQQ")  # by what it was written, its bytes, and those beside it
_QUICK, _WHOLE = 0, 1
_AT_ONCE = 64  # values to a frame
_PIPE = 1 << 20  # bytes that the other process may be ahead
_SET_SIZE = 1031  # fcntl's F_SETPIPE_SZ, which Linux alone has


def write(file: IO[bytes], value: Any, *, beside: bytes = b"", default: Callable[[Any], Any] | None = None) -> None:
    """Write one value.

    Args:
        file: Where.
        value: Anything that JSON has.
        beside: Bytes that come with it.
        default: Makes something that JSON has of what else there is.

    Raises:
        TypeError: There is something that JSON does not have.
    """
    try:
        by, data = _QUICK, orjson.dumps(value, default=default)
    except TypeError:  # halves of surrogate pairs, whole numbers beyond 64 bits, which only json reads again as well
        by, data = _WHOLE, json.dumps(value, default=default).encode()
    file.write(_HEAD.pack(by, len(data), len(beside)))
    file.write(data)
    file.write(beside)


def read(file: IO[bytes]) -> Iterator[tuple[Any, bytes]]:
    """The values of a file in order, and the bytes beside each; one that is cut off is not given."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        by, size, more = _HEAD.unpack(head)
        data, beside = file.read(size), file.read(more)
        if len(data) + len(beside) < size + more:
            return
        yield orjson.loads(data) if by == _QUICK else json.loads(data), beside


def can_fork() -> bool:
    """Whether another process can do a part of the work: there is a second core, and a fork that is safe."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def abreast(
    values: Callable[[], Iterator[tuple[Any, bytes]]], *, meanwhile: Callable[[], object] = bool
) -> Iterator[tuple[Any, bytes]]:
    """What an iterator gives in a fork of this process, which runs ahead while this one uses it.

    Args:
        values: Makes the iterator: of values that JSON has, and bytes that come with each.
        meanwhile: Called here while the other process begins.

    Raises:
        ChildProcessError: The other process ended before it had given all; why, this one will find when it tries.

    Example:
        >>> list(abreast(lambda: iter([(1, b"one"), ([2], b"")])))
        [(1, b'one'), ([2], b'')]
    """
    incoming, outgoing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there may be threads: the child touches nothing of theirs
        child = os.fork()
    if not child:
        _serve(values, incoming, outgoing)
    os.close(outgoing)
    try:
        meanwhile()
        with os.fdopen(incoming, "rb", buffering=_PIPE) as file:
            for frame, beside in read(file):
                if frame is None:
                    return
                start = 0
                for value, size in frame:
                    yield value, beside[start : start + size]
                    start += size
        raise ChildProcessError("the process that works ahead has ended early")
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, 9)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _serve(values: Callable[[], Iterator[tuple[Any, bytes]]], incoming: int, outgoing: int) -> None:
    """In the child: write all there is, and end without what a program does at its end."""
    code = 1
    try:
        os.close(incoming)
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.fcntl(outgoing, _SET_SIZE, _PIPE)
        given = values()
        with os.fdopen(outgoing, "wb") as file:
            while some := list(islice(given, _AT_ONCE)):
                frame = [(value, len(beside)) for value, beside in some]
                write(file, frame, beside=b"".join([beside for _, beside in some]))
                file.flush()
            write(file, None)
        code = 0
    except BaseException:  # noqa: BLE001, S110 (the parent meets it when it does the work itself)
        pass
    finally:
        os._exit(code)
