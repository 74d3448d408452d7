"""Export: samples in forms that other programs read."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.catalog.exports import files, parquet, webdataset, zarr_store
from sensorium.platform.errors import InvalidSetting, UserError, close_matches

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["FORMATS", "export"]

#: name -> what writes it into an empty folder, and returns the number of samples
FORMATS: dict[str, Callable[[Selection, Path], int]] = {
    "native": functools.partial(files.write, native=True),
    "npz": functools.partial(files.write, native=False),
    "webdataset": webdataset.write,
    "parquet": parquet.write,
    "huggingface": functools.partial(parquet.write, card=True),
    "zarr": zarr_store.write,
}


def export(selection: Selection, folder: Path, *, format: str = "native") -> int:  # noqa: A002
    """Write the samples of ``selection`` into ``folder``, with ``dataset.json``, which says what they are.

    Args:
        selection: what to export.
        folder: a new or empty folder; it is there when all of it is.
        format: ``native``, the modality's usual files where it has such; ``npz``, a file a sample; ``webdataset``, tar
            shards; ``parquet``, shards with files in them; ``huggingface``, the same as a repository that ``datasets``
            loads; ``zarr``.

    Returns:
        How many samples were written.

    Raises:
        InvalidSetting: no such format.
        UserError: the folder has something in it already, or cannot be made.
    """
    if format not in FORMATS:
        raise InvalidSetting(
            f"format must be one of {', '.join(FORMATS)}; got {format!r}. {close_matches(format, FORMATS)}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder. Give a new one: an export never overwrites.")
    # under another name until it is whole: nobody takes half an export for all of it
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        count = FORMATS[format](selection, partial)
        _describe(selection, partial, format)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error}. Give another folder, or make room.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _describe(selection: Selection, folder: Path, form: str) -> None:
    declaration = selection.declaration
    about = {
        "data_set": selection.name,
        "version": selection.version,
        "modality": declaration.modality_name,
        "format": form,
        "description": declaration.description,
        "licence": declaration.licence,
        "attributes": dict(declaration.attributes),
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
