"""How loops are compiled: numba, without the interpreter's lock, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sensorium.platform.optional import require

__all__ = ["compiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call; later processes load what that one compiled.

    numba keeps it beside the source, or in the user's cache folder where the source's cannot be written, or in
    ``NUMBA_CACHE_DIR``. Where none of them can be written, each process compiles afresh.

    Raises:
        MissingDependency: numba is not installed.
    """
    numba = require("numba", "build trees of images")
    try:
        kept: _Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder for its cache
        fresh: _Function = numba.njit(nogil=True)(function)
        return fresh
    _depend_on_called(kept, function)
    return kept


def _depend_on_called(kept: Any, function: Callable[..., Any]) -> None:
    """Let what is kept of a function go stale with the compiled functions of other files that it calls.

    numba itself looks at the function's own file only, and would run the old code of the others, which is part of what it
    keeps, after they have changed. The stamp is no public name of numba: without it all is as numba does it.
    """
    file = _cache_file(kept)
    called = (_cache_file(function.__globals__.get(name)) for name in function.__code__.co_names)
    stamps = {other._source_stamp for other in called if other is not None}
    if file is not None and stamps - {file._source_stamp}:
        file._source_stamp = (file._source_stamp, *sorted(stamps, key=repr))


def _cache_file(kept: Any) -> Any:
    """Where numba keeps a function, if it is one of those."""
    file = getattr(getattr(kept, "_cache", None), "_cache_file", None)
    return file if hasattr(file, "_source_stamp") else None
