"""What the folders of a source say: the split, the class, and which files are masks of which."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.importer import Source
from sensorium.catalog.importers._files import places, stem, unreadable
from sensorium.platform.errors import InvalidSetting

__all__ = ["LABEL_OPTION", "MASK_OPTION", "Pairs", "from_folders", "is_mark", "kind", "pair"]

_log = logging.getLogger(__name__)

_SPLITS = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
#: folders that hold the pictures where masks lie in a folder beside it
_PLAIN = frozenset(("image", "images", "imgs", "img", "volumes"))
#: folder of masks -> the field that they become
_MARKS = {"mask": "mask", "masks": "mask", "label": "labels", "labels": "labels"}

LABEL_OPTION = {
    "label": "auto: the first sub-folder is the label where there are at least two (train, val, test, images and masks "
    "do not count); folder: also where there is one; none: no labels from folders",
}
MASK_OPTION = {"masks": "auto (default): find masks by folder or name; none: every file is a sample"}


@dataclass
class Pairs:
    """Files to import, and the masks that belong to each: ``marks[path]["mask"]`` or ``["labels"]``."""

    paths: list[Path]
    marks: dict[Path, dict[str, Path]] = field(default_factory=dict)


def pair(source: Source, paths: Sequence[Path], ending: re.Pattern[str] | None = None) -> Pairs:
    """Part ``paths`` into samples and their masks.

    A mask lies in a folder ``masks`` or ``labels`` in the place of the sample or of its folder ``images``, under the
    same name; or, with ``ending``, its name is the sample's and an end that the pattern matches.

    Raises:
        UnreadableFile: there are masks, and none belongs to any sample; or a sample has two.
        InvalidSetting: the option ``masks`` is unknown.
    """
    mode = source.options.get("masks", "auto")
    if mode not in ("auto", "none"):
        raise InvalidSetting(f"masks must be auto or none; got {mode!r}.")
    if mode == "none":
        return Pairs(list(paths))
    samples: dict[tuple[str, ...], list[Path]] = {}
    marks: list[tuple[tuple[str, ...], str, Path]] = []
    for path, place in places(source, paths).items():
        folders = [part.lower() for part in place.split("/")[:-1]]
        named = any(folder in _MARKS for folder in folders)
        inner = tuple(folder for folder in folders if folder not in _PLAIN and folder not in _MARKS)
        match = ending.search(stem(path)) if ending else None
        if named or match:
            name = stem(path)[: match.start()] if match else stem(path)
            marks.append(((*inner, name), kind(path), path))
        else:
            samples.setdefault((*inner, stem(path)), []).append(path)
    if not samples:  # folders called so, but nothing else: they are classes, or the masks themselves are the data
        return Pairs(list(paths))
    result = Pairs(sorted(path for group in samples.values() for path in group))
    orphans = []
    for key, name, path in marks:
        owners = samples.get(key, [])
        for owner in owners:
            other = result.marks.setdefault(owner, {}).setdefault(name, path)
            if other != path:
                raise unreadable(owner, f"has two masks, {other} and {path}", "Keep one.")
        if not owners:
            orphans.append(path)
    if marks and len(orphans) == len(marks):
        remedy = "Give both the same name, or say masks=none if these are samples too."
        raise unreadable(orphans[0], f"none of {len(marks)} masks has the name of a sample", remedy)
    for path in orphans:
        _log.warning("%s: is a mask of no sample; left out", path)
    return result


def is_mark(path: Path) -> bool:
    """Whether a file lies in a folder of masks, and one of its name in the folder beside it or above it."""
    if path.parent.name.lower() not in _MARKS:
        return False
    above = path.parent.parent
    return (above / path.name).is_file() or any(
        (above / name / path.name).is_file() for name in os.listdir(above) if name.lower() in _PLAIN
    )


def kind(path: Path) -> str:
    """The field that a file of marks becomes, ``mask`` or ``labels``: its last folder that is called so decides."""
    return next((_MARKS[part.lower()] for part in reversed(path.parts[:-1]) if part.lower() in _MARKS), "mask")


def from_folders(
    where: Mapping[Path, str], mode: str
) -> tuple[Mapping[str, pa.DataType], Mapping[Path, dict[str, Any]]]:
    """``split`` from folders called train, val or test (and their variants), ``label`` from the first other sub-folder.

    ``where`` gives the place of each file below the source, ``mode`` is the option ``label``.

    Raises:
        InvalidSetting: the option ``label`` is unknown.
    """
    if mode not in ("auto", "folder", "none"):
        raise InvalidSetting(f"label must be auto, folder or none; got {mode!r}.")
    rows: dict[Path, dict[str, Any]] = {path: {} for path in where}
    for path, place in where.items():
        folders = place.split("/")[:-1]
        splits = [_SPLITS[part.lower()] for part in folders if part.lower() in _SPLITS]
        classes = [part for part in folders if part.lower() not in _SPLITS and part.lower() not in _PLAIN]
        if splits:
            rows[path]["split"] = splits[0]
        if classes and mode != "none":
            rows[path]["label"] = classes[0]
    labels = {row["label"] for row in rows.values() if "label" in row}
    if mode == "auto" and len(labels) < 2:
        for row in rows.values():
            row.pop("label", None)
    found = {name for row in rows.values() for name in row}
    return {name: pa.string() for name in ("split", "label") if name in found}, rows
