"""Writing of files that several exports share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["with_suffix", "write_npz"]


def with_suffix(path: Path, suffix: str) -> Path:
    """``path`` with ``suffix`` put after its name, which may have dots of its own; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(path.name + suffix)


def write_npz(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> Path:
    """Write ``arrays`` by name to ``path`` + ``.npz`` and return that path."""
    target = with_suffix(path, ".npz")
    with target.open("wb") as stream:
        np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]  # a field may be called anything
    return target
