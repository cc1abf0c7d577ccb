"""Plain values on their way through a pipe or a temporary file of one's own.

`marshal` writes them: several times as fast as JSON, it has tuples, sets, whole numbers of any size and halves of
surrogate pairs, and unlike pickle it makes nothing but plain values. What is read is what this program, on this
interpreter, has just written where nobody else can write.
"""

from __future__ import annotations

import marshal
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any

_AT_ONCE = 64  # values to a frame
_PIPE = 1 << 20  # bytes that the other process may be ahead
_SET_SIZE = 1031  # fcntl's F_SETPIPE_SZ, which Linux alone has
_END = "end"


def write(file: IO[bytes], value: Any) -> None:
    """Write one plain value.

    Raises:
        ValueError: It is not plain.
    """
    data = marshal.dumps(value)
    file.write(len(data).to_bytes(8, "little"))
    file.write(data)


def read(file: IO[bytes]) -> Iterator[Any]:
    """The values of a file, in order; one that is cut off is not given."""
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head, "little")
        data = file.read(size)
        if len(data) == size:
            yield marshal.loads(data)  # noqa: S302 (written by this program; see above)


def can_fork() -> bool:
    """Whether another process can do a part of the work: there is a second core, and a fork that is safe."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def abreast(values: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The values that an iterator gives in a fork of this process, which runs ahead while this one uses them.

    Args:
        values: Makes the iterator of plain values.

    Raises:
        ChildProcessError: The other process ended before it had given all; why, this one will find when it tries.

    Example:
        >>> list(abreast(lambda: iter(range(3))))
        [0, 1, 2]
    """
    incoming, outgoing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there may be threads: the child touches nothing of theirs
        child = os.fork()
    if not child:
        _serve(values, incoming, outgoing)
    os.close(outgoing)
    try:
        with os.fdopen(incoming, "rb", buffering=_PIPE) as file:
            for frame in read(file):
                if frame == _END:
                    return
                yield from frame
        raise ChildProcessError("the process that works ahead has ended early")
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, 9)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _serve(values: Callable[[], Iterator[Any]], incoming: int, outgoing: int) -> None:
    """In the child: write all values, and end without what a program does at its end."""
    code = 1
    try:
        os.close(incoming)
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.fcntl(outgoing, _SET_SIZE, _PIPE)
        given = values()
        with os.fdopen(outgoing, "wb") as file:
            while some := list(islice(given, _AT_ONCE)):
                write(file, some)
                file.flush()
            write(file, _END)
        code = 0
    except BaseException:  # noqa: BLE001, S110 (the parent meets it when it does the work itself)
        pass
    finally:
        os._exit(code)
