"""Pairs of pictures of one place at two times, with what changed: folders as the data sets of change detection have them.

* ``A``, ``B`` and ``label`` with files of the same names (LEVIR-CD, WHU-CD, DSIFN), or ``Image1``, ``Image2`` and
  ``label`` (S2Looking), ``t1``, ``t2`` and ``mask``, ``before``, ``after`` and ``change``; in folders of splits or not.
* OSCD: for each city a folder with ``imgs_1_rect`` and ``imgs_2_rect``, which hold a TIFF for each band, and
  ``cm/cm.png`` beside them or below another folder of the same city. Without ``_rect`` bands differ in size and are refused.
* NumPy archives of two arrays [C, H, W] or [H, W, C] and a map [H, W], of these names or those of ``arrays``.

``before`` and ``after`` are [H, W, C] with the type and the values of the files, bands in the order of their names.
``change`` is [H, W] of uint8, 1 where something changed: files of 0 and 255 or 1 and 2 are understood, others need
``unchanged``. ``bands`` are names, where there are any; ``split`` comes from folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata, image_folder, npz
from sensorium.catalog.importers._files import number, once, places, probe, stem, unreadable, visible
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer"]

Array = npt.NDArray[Any]

_ARCHIVE = ".npz"
_SUFFIXES = image_folder.SUFFIXES | {_ARCHIVE}
#: more sure than an importer of plain pictures, which is at most 0.9 and would part the pairs
_SURE = 0.97
_RESERVED = ("before", "after", "change", "bands", "split")
#: what folders and arrays are called, in lower case -> the field
_ROLES = {
    **dict.fromkeys(("a", "t1", "time1", "image1", "im1", "img1", "before", "pre"), "before"),
    **dict.fromkeys(("b", "t2", "time2", "image2", "im2", "img2", "after", "post"), "after"),
    **dict.fromkeys(("label", "labels", "mask", "masks", "change", "cd", "gt", "out"), "change"),
}
#: folders that such data sets have besides, of which nothing is used
_ASIDE = frozenset(("pair", "label1", "label2"))
_BANDS = {"imgs_1_rect": "before", "imgs_2_rect": "after", "imgs_1": "before", "imgs_2": "after"}
_BAND = re.compile(r"(?:^|[_-])(B\d\d?A?)$", re.IGNORECASE)
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)", re.IGNORECASE)
_MAP = re.compile(r"^(?:cm|(?P<city>.+)-cm)$")


@dataclass
class _Group:
    """The files of one pair to be, by field."""

    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def main(self) -> Path:
        return next(self.files[name][0] for name in ("before", "after", "change") if name in self.files)


def _matches(source: Source) -> float:
    return _SURE / 0.9 * probe(source, _SUFFIXES, _judge)


def _judge(path: Path) -> float | None:
    """Of an earlier picture, whether a later one and a map of changes belong to it; the others say nothing."""
    if suffix(path) == _ARCHIVE:
        return float(len(set(_usual(npz.members(path)))) == 3)
    if not image_folder.is_picture(path):
        return 0.0
    folder = path.parent.name.lower()
    if folder in _BANDS:
        return float(any((path.parent.parent / name).is_dir() for name, role in _BANDS.items() if role == "after"))
    role = _ROLES.get(folder)
    if role != "before":
        return None if role or _MAP.match(stem(path)) or folder in _ASIDE else 0.0
    found = {
        _ROLES.get(other.name.lower())
        for other in path.parent.parent.iterdir()
        if other.name.lower() in _ROLES and any((other / f"{stem(path)}{end}").is_file() for end in _SUFFIXES)
    }
    return float({"after", "change"} <= found)


def _usual(names: Iterable[str]) -> dict[str, str]:
    """Arrays of an archive by field."""
    return {_ROLES[name.lower()]: name for name in names if name.lower() in _ROLES}


@once
def _groups(source: Source) -> dict[str, _Group]:
    """Pairs by their ids."""
    where = places(source, visible(source, _SUFFIXES))
    groups: dict[str, _Group] = {}
    maps: dict[str, list[Path]] = {}
    for path, place in where.items():
        *folders, _ = place.split("/")
        last = next((index for index in reversed(range(len(folders))) if folders[index].lower() in _ROLES), None)
        if suffix(path) == _ARCHIVE:
            groups[place[: -len(_ARCHIVE)]] = _Group({"before": [path]})
        elif folders and folders[-1].lower() in _BANDS:
            _add_band(groups.setdefault("/".join(folders[:-1]) or source.path.name, _Group()), path)
        elif match := _MAP.match(stem(path)):  # before roles: a folder above the cities may be called so
            maps.setdefault(match["city"] or path.parent.parent.name, []).append(path)
        elif last is not None:
            identifier = "/".join([*folders[:last], *folders[last + 1 :], stem(path)])
            _add(groups.setdefault(identifier, _Group()), _ROLES[folders[last].lower()], path)
    for identifier, group in groups.items():
        found = maps.get(identifier.rpartition("/")[2], [])
        if found and "change" not in group.files:
            group.files["change"] = sorted(found, key=lambda path: suffix(path) != ".png")[:1]
    if not groups:
        problem = "has no folders of pairs, such as A, B and label, or imgs_1_rect and imgs_2_rect"
        raise unreadable(source.path, problem, "Name the folder above them.")
    return dict(sorted(groups.items()))


def _add(group: _Group, role: str, path: Path) -> None:
    other = group.files.setdefault(role, [path])[0]
    if other != path:
        raise unreadable(path, f"and {other} are both the picture {role!r} of one pair", "Keep one.")


def _add_band(group: _Group, path: Path) -> None:
    """Bands of the common grid replace those of their own."""
    if not _BAND.search(stem(path)):
        return
    bands = group.files.setdefault(_BANDS[path.parent.name.lower()], [])
    if bands and bands[0].parent != path.parent:
        if not path.parent.name.lower().endswith("_rect"):
            return
        bands.clear()
    bands.append(path)
    bands.sort(key=lambda band: _band_order(_band(band)))


def _band(path: Path) -> str:
    match = _BAND.search(stem(path))
    return match[1].upper() if match else ""


def _band_order(name: str) -> tuple[float, str]:
    """Bands by their number, with 8A between 8 and 9."""
    digits = re.sub(r"\D", "", name)
    return float(digits or 0) + 0.5 * name.endswith("A"), name


@once
def _known(source: Source) -> _metadata.Known:
    groups = _groups(source)
    paths = {identifier: group.main for identifier, group in groups.items()}
    known = _metadata.known(source, paths, _RESERVED, label="none")
    if "split" not in known.types:
        splits = {identifier: {"split": _split(source, group)} for identifier, group in groups.items()}
        if any(row["split"] for row in splits.values()):
            known.add({"split": pa.string()}, splits)
    return known


def _split(source: Source, group: _Group) -> str | None:
    """The split that a folder of the pair's map is called after, such as ``Train Labels``."""
    maps = group.files.get("change", [])
    found = [_SPLIT.search(part) for place in places(source, maps).values() for part in place.split("/")[:-1]]
    return next((match[1].lower() for match in found if match), None)


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for identifier, group in _groups(source).items():
        paths = [path for role in ("before", "after", "change") for path in group.files.get(role, [])]
        counts = [len(group.files.get(role, [])) for role in ("before", "after", "change")]
        yield Item(identifier, tuple(paths), {**scalars[identifier], "files": counts})


def _fields(source: Source) -> tuple[Field, ...]:
    bands = ScalarField("bands", pa.list_(pa.string()), description="name of each channel of before and after")
    return (*_known(source).fields(), bands)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    sample = dict(item.scalars)
    counts = sample.pop("files")  # how many of the paths are of before, after and change
    if suffix(item.paths[0]) == _ARCHIVE:
        return {**sample, **_from_archive(item.paths[0], options)}
    ends = [sum(counts[: index + 1]) for index in range(3)]
    before, after, change = (list(item.paths[end - count : end]) for end, count in zip(ends, counts, strict=True))
    if not before or not after:
        missing = "earlier" if not before else "later"
        problem = f"there is no {missing} picture of {item.id!r}, only the other half of the pair"
        raise unreadable(item.paths[0], problem, "Give both the same name, or leave it out.")
    names = [[_band(path) for path in part] for part in (before, after)]
    if (len(before) > 1 or len(after) > 1) and names[0] != names[1]:
        problem = f"bands are {', '.join(names[0])} before and {', '.join(names[1])} after"
        raise unreadable(before[0].parent, problem, "Fetch those that are missing.")
    limit = number(options, "max_pixels", image_folder.MAX_PIXELS)
    sample |= {"before": _bands(before, limit), "after": _bands(after, limit)}
    if len(before) > 1:
        sample["bands"] = names[0]
    if change:
        raw = image_folder.decode(change[0], limit, image_folder.as_mask)
        sample["change"] = _binary(change[0], raw, options)
    _check_sizes(item.paths[0], sample, after[0])
    return sample


def _bands(paths: list[Path], limit: float) -> Array:
    """A picture [H, W, C], of one file or of one for each band."""
    bands = [image_folder.decode(path, limit / len(paths), image_folder.as_picture) for path in paths]
    for path, band in zip(paths, bands, strict=True):
        if len(paths) > 1 and (band.shape != (*bands[0].shape[:2], 1) or band.dtype != bands[0].dtype):
            problem = f"is {band.shape} of {band.dtype}, band {paths[0].name} is {bands[0].shape} of {bands[0].dtype}"
            raise unreadable(path, problem, "Resample all bands to one grid, as those in imgs_1_rect are.")
    return np.concatenate(bands, axis=2)


def _check_sizes(path: Path, sample: Mapping[str, Array], after: Path) -> None:
    for name in ("after", "change"):
        if name in sample and sample[name].shape[:2] != sample["before"].shape[:2]:
            there, here = sample[name].shape[:2], sample["before"].shape[:2]
            problem = f"has {here[1]} x {here[0]} pixels, {name} of the pair ({after.name}) has {there[1]} x {there[0]}"
            raise unreadable(path, problem, "Resample the pair to one grid, or leave it out.")


def _binary(path: Path, raw: Array, options: Mapping[str, str]) -> Array:
    """1 where something changed, else 0; [H, W] of uint8."""
    values = set(np.unique(raw).tolist())
    text = options.get("unchanged", "1" if stem(path).endswith("-cm") else None)  # OSCD's TIFF has 1 and 2
    if text is not None and not (text.isascii() and text.isdigit()):
        raise InvalidSetting(f"unchanged must be a whole number, the maps' value for no change; got {text!r}.")
    if text is not None:
        unchanged = int(text)
    elif values <= {0, 1} or values <= {0, 255}:
        unchanged = 0
    elif values <= {1, 2}:
        unchanged = 1
    else:
        problem = f"has the values {sorted(values)[:8]}, not two that are known (0 and 255, 0 and 1, 1 and 2)"
        raise unreadable(path, problem, "Say which one is no change with unchanged=VALUE.")
    return np.not_equal(raw, unchanged).astype(np.uint8)


def _from_archive(path: Path, options: Mapping[str, str]) -> dict[str, Any]:
    there = npz.members(path)
    names = [name.strip() for name in options.get("arrays", "").split(",") if name.strip()]
    usual = _usual(there)
    if not names:
        names = [usual[role] for role in ("before", "after", "change") if role in usual]
    if len(names) != 3:
        problem = f"three arrays are needed, before, after and change (there are: {', '.join(there)})"
        raise unreadable(path, problem, "Name them with arrays=BEFORE,AFTER,CHANGE.")
    extra = ["bands"] if "bands" in there else []
    before, after, change, *bands = npz.arrays(path, [*names, *extra], number(options, "max_bytes", npz.MAX_BYTES))
    pictures = [_channels_last(path, array, change) for array in (before, after)]
    sample: dict[str, Any] = {"before": pictures[0], "after": pictures[1], "change": _binary(path, change, options)}
    if pictures[0].shape != pictures[1].shape:
        problem = f"arrays are {before.shape} before and {after.shape} after"
        raise unreadable(path, problem, "Resample the pair to one grid.")
    if bands and bands[0].dtype.kind == "U" and bands[0].shape == pictures[0].shape[2:]:
        sample["bands"] = bands[0].tolist()
    return sample


def _channels_last(path: Path, array: Array, change: Array) -> Array:
    """``array`` as [H, W, C], known by the grid [H, W] of ``change``."""
    if change.ndim == 2 and array.ndim == 3 and array.shape[1:] == change.shape:
        return np.ascontiguousarray(array.transpose(1, 2, 0))
    if change.ndim == 2 and array.ndim == 3 and array.shape[:2] == change.shape:
        return array
    problem = f"arrays are {array.shape} and {change.shape}, not [C, H, W] or [H, W, C] and [H, W]"
    raise unreadable(path, problem, "Save them in one of these forms.")


importer = Importer(
    name="change_folders",
    title="pairs of pictures with changes (A, B, label; OSCD; NumPy archives)",
    modality="image_pair",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "unchanged": "value of the maps that means no change (default: 0, or 1 in maps of 1 and 2)",
        "arrays": "names of the arrays before, after and change in NumPy archives (default: usual names, such as t1, t2, change)",
        "max_pixels": "refuse pairs with more pixels, all bands together, in a picture "
        f"(default {image_folder.MAX_PIXELS:.0f})",
        "max_bytes": f"refuse NumPy archives whose arrays are larger together (default {npz.MAX_BYTES:.0f})",
        **_metadata.PATTERN_OPTION,
        **_metadata.OPTIONS,
    },
)
