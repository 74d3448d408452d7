"""Samples as files, one or more a sample, with their scalars in a table beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["write"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]")


def write(selection: Selection, folder: Path, *, native: bool) -> int:
    """Write samples in the modality's usual format where it has one, or as NPZ, and ``samples.parquet`` (id, file, scalars)."""
    declaration = selection.declaration
    own = declaration.modality.export if native else None
    files: list[str | None] = []
    with progress(f"export {selection.name}", total=len(selection), unit="samples") as bar:
        for sample in selection:
            target = folder / _file_name(sample.id)
            target.parent.mkdir(parents=True, exist_ok=True)
            arrays = [name for name in selection.fields if name in declaration.arrays and name in sample]
            path = (own or _write_npz)(sample, target) if arrays else None
            files.append(path.relative_to(folder).as_posix() if path is not None else None)
            bar.advance()
    frame = selection.frame()
    frame.insert_column(1, pl.Series("file", files, dtype=pl.String)).write_parquet(folder / "samples.parquet")
    return len(files)


def _write_npz(sample: Sample, target: Path) -> Path:
    path = target.with_name(target.name + ".npz")
    arrays = {name: value for name in sample if isinstance(value := sample[name], np.ndarray)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type] # a field named allow_pickle would be its own
    return path


def _file_name(identifier: str) -> str:
    """A relative path from an id: its folders are kept, nothing may lead out of the export."""
    parts = [_UNSAFE.sub("_", part) for part in identifier.split("/")]
    return "/".join(part if part.strip(". ") else "_" for part in parts)
