"""Export: samples as files that other programs read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from sensorium.platform.errors import InvalidSetting, UserError
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["export"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]")


def export(selection: Selection, folder: Path, *, format: Literal["native", "npz"] = "native") -> int:  # noqa: A002
    """Write the samples of ``selection`` as files, with ``samples.parquet`` (id, file, scalars) and ``dataset.json`` beside.

    Args:
        selection: what to export.
        folder: a new or empty folder.
        format: the modality's usual file format where it has one, or one NPZ a sample with all its arrays.

    Returns:
        How many samples were written.

    Raises:
        UserError: the folder has something in it already.
    """
    if format not in ("native", "npz"):
        raise InvalidSetting(f"format must be 'native' or 'npz'; got {format!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder. Give a new one: an export never overwrites.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error}. Give another folder.") from error
    declaration = selection.declaration
    native = declaration.modality.export if format == "native" else None
    files: list[str | None] = []
    with progress(f"export {selection.name}", total=len(selection), unit="samples") as bar:
        for sample in selection:
            target = folder / _file_name(sample.id)
            target.parent.mkdir(parents=True, exist_ok=True)
            arrays = [name for name in selection.fields if name in declaration.arrays and name in sample]
            path = (native or _write_npz)(sample, target) if arrays else None
            files.append(path.relative_to(folder).as_posix() if path is not None else None)
            bar.advance()
    frame = selection.frame()
    frame.insert_column(1, pl.Series("file", files, dtype=pl.String)).write_parquet(folder / "samples.parquet")
    about = {
        "data_set": selection.name,
        "version": selection.version,
        "modality": declaration.modality_name,
        "description": declaration.description,
        "licence": declaration.licence,
        "attributes": dict(declaration.attributes),
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
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
