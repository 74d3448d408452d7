"""Sounds, or parts of them, that a table names: what importers of such tables share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.catalog.importer import Item, Source
from sensorium.catalog.importers import audio_files
from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import InvalidSetting

__all__ = ["OPTIONS", "located", "read", "root_of"]

OPTIONS = {
    "root": "folder that places in the tables count from, and that all sounds must lie below (default: the source)",
    **audio_files.LIMIT_OPTION,
}


def root_of(source: Source) -> Path:
    """The folder that places count from.

    Raises:
        InvalidSetting: the option names none.
    """
    folder = source.path if source.path.is_dir() else source.path.parent
    root = (folder / source.options.get("root", "")).resolve()
    if not root.is_dir():
        raise InvalidSetting(f"root must be a folder; got {source.options.get('root')!r}.")
    return root


def located(root: Path, text: str, table: Path, line: int) -> Path:
    """The sound that a line of a table names, below ``root``.

    Raises:
        UnreadableFile: it lies elsewhere, or nothing lies there.
    """
    found = Path(root, text).resolve()  # an absolute place stays as it is
    if not found.is_relative_to(root):
        problem = f"line {line}: {text!r} is not below {root}"
        raise unreadable(table, problem, "Name a folder that holds all sounds with root=FOLDER.")
    if "\0" in text or not found.is_file():
        problem = f"line {line}: there is no sound {text!r} below {root}"
        raise unreadable(table, problem, "Fetch it, take the line out, or say root=FOLDER.")
    return found


def read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    """The sample of a sound, or of its part from ``start`` to ``stop`` (s) where the item's place has them."""
    part = audio_files.decode(item.paths[0], options, item.place.get("start", 0.0), item.place.get("stop"))
    return {**item.scalars, **part}
