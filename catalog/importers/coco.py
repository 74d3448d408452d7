"""Annotations in COCO's JSON form, with the pictures that they speak of.

The annotations lie above the pictures or beside them: ``annotations/instances_val2017.json`` and ``val2017/``, or a file
in the pictures' own folder. Several files go together: those of captions add to those of objects; those of key points,
which repeat the objects of others, add to these. Pictures that no file names are left out.

``image`` is as importers of picture folders read it. Per sample, in the file's order: ``boxes`` (x, y, width, height in
pixels from the top left corner), ``categories`` and ``category_ids``, ``areas`` in square pixels, ``iscrowd``, and
``captions``. ``keypoints`` has for each object a list of [x, y, visibility] (0 not marked, 1 hidden, 2 visible), empty for
objects without; the attribute ``skeletons`` has the points' ``names`` for each category, and ``edges``, pairs of positions
among these from 0. ``labels`` [H, W] is there where objects are outlined: the category per pixel, later objects over earlier
ones, 0 where there is none; its values are positions in the data set's attribute ``categories``, whose first is
``background`` and whose others are in the order of their ids. ``split`` comes from folders, or from the file's name.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _coco_files, _metadata, _outlines, image_folder
from sensorium.catalog.importers._files import identifiers, number, once, places, unreadable, visible
from sensorium.platform.errors import UnreadableFile

__all__ = ["importer"]

_log = logging.getLogger(__name__)

#: more sure than an importer of plain pictures, which is at most 0.9 and would lose the objects
_SURE = 0.97
_RESERVED = ("image", "labels", "boxes", "categories", "category_ids", "areas", "iscrowd", "captions", "keypoints")
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?!val|[a-z])")
#: scalar of an item with what annotations say of it, for its reader
_SAID = "annotations"
#: of coordinates and areas, in pixels; whole numbers of any length are JSON, and do not fit into a float
_LARGEST = 1e300

_FIELDS = (
    ScalarField(
        "boxes",
        pa.list_(pa.list_(pa.float64())),
        unit="px",
        description="x, y, width and height of each object, from the top left corner",
    ),
    ScalarField("categories", pa.list_(pa.string()), description="what each object is"),
    ScalarField("category_ids", pa.list_(pa.int64()), description="the same as numbers of the annotations' file"),
    ScalarField("areas", pa.list_(pa.float64()), unit="px²", description="of each object"),
    ScalarField("iscrowd", pa.list_(pa.bool_()), description="whether it is many objects in one outline"),
)
_POINTS = ScalarField(
    "keypoints",
    pa.list_(pa.list_(pa.list_(pa.float64()))),
    description="x, y (px) and visibility of each point of each object",
)
_CAPTIONS = ScalarField("captions", pa.list_(pa.string()), description="sentences about the picture")


@dataclass(frozen=True)
class _Found:
    """All of a source: pictures by their file, categories by id, skeletons, scalars of files that are known without decoding."""

    source: Source
    pictures: Mapping[Path, _coco_files.Picture]
    names: list[list[Any]]
    skeletons: dict[str, dict[str, Any]]
    known: _metadata.Known


def _matches(source: Source) -> float:
    return _SURE * _coco_files.is_there(source)


@once
def _found(source: Source) -> _Found:
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    documents = _coco_files.documents(source)
    inner = _around(source)
    index = _Index(inner)
    names = _coco_files.categories(documents)
    pictures: dict[Path, _coco_files.Picture] = {}
    for path, document in documents.items():
        for entry in _coco_files.pictures(path, document, names).values():
            place = index.find(path, entry.name)
            if place in pictures:
                _coco_files.merge(path, pictures[place], entry)
            else:
                pictures[place] = entry
    there = [path for path in pictures if path in index]
    if not there:
        problem = f"none of the {len(pictures)} pictures that it names is there, such as {next(iter(pictures)).name!r}"
        raise unreadable(next(iter(documents)), problem, "Name the folder that holds annotations and pictures.")
    if len(index) > len(there):
        _log.info("%s: %d pictures without annotations are left out", source.path, len(index) - len(there))
    known = _metadata.of_files(inner, sorted(pictures), (*_RESERVED, "split"), label="none")
    if "split" not in known.types:
        splits = {path: {"split": _split(Path(one.origin))} for path, one in pictures.items()}
        if any(row["split"] for row in splits.values()):
            known.add({"split": pa.string()}, splits)
    return _Found(inner, pictures, names, _coco_files.skeletons(documents), known)


def _around(source: Source) -> Source:
    """The folder that pictures are looked for in; a file called ``annotations/x.json`` speaks of those beside its folder."""
    if source.path.is_dir():
        return source
    folder = source.path.parent
    return Source(folder.parent if folder.name.lower() == "annotations" else folder, source.options)


def _split(path: Path) -> str | None:
    """The split that a file of annotations is called after."""
    match = _SPLIT.search(path.stem.lower())
    return match[1] if match else None


class _Index:
    """The pictures of a source, to be found as annotations call them: only what lies below the source is ever opened."""

    def __init__(self, source: Source) -> None:
        self._root = source.path
        self._by_place = {place: path for path, place in places(source, visible(source, image_folder.SUFFIXES)).items()}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self._by_place.values():
            self._by_name[path.name].append(path)

    def __contains__(self, path: Path) -> bool:
        return path.relative_to(self._root).as_posix() in self._by_place

    def __len__(self) -> int:
        return len(self._by_place)

    def find(self, origin: Path, name: str) -> Path:
        """The file that ``origin`` calls ``name``; where there is none, the place where it should be."""
        name = name.replace("\\", "/").removeprefix("./")
        beside = posixpath.normpath((origin.parent.relative_to(self._root) / name).as_posix())
        for place in (beside, name):
            if place in self._by_place:
                return self._by_place[place]
        ends = [path for path in self._by_name[name.rpartition("/")[2]] if path.as_posix().endswith(f"/{name}")]
        if len(ends) > 1:  # the same name in several splits: the folder that the annotations are called after
            ends = [path for path in ends if path.parent.name.lower() in origin.stem.lower()] or ends
        if len(ends) > 1:
            problem = f"picture {name!r} may be {ends[0]} or {ends[1]}"
            raise unreadable(origin, problem, "Write its place into file_name, such as train/1.jpg.")
        return ends[0] if ends else self._root / name.rpartition("/")[2]


def _plan(source: Source) -> Iterator[Item]:
    found = _found(source)
    place = {"points": {name: len(one["names"]) for name, one in found.skeletons.items()}}
    for path, name in identifiers(found.source, sorted(found.pictures)).items():
        yield Item(name, (path,), {**found.known.rows[path], _SAID: vars(found.pictures[path])}, place)


def _fields(source: Source) -> tuple[Field, ...]:
    found = _found(source)
    objects = (*_FIELDS, *((_POINTS,) if found.skeletons else ())) if found.names else ()
    captions = (_CAPTIONS,) if any(picture.captions for picture in found.pictures.values()) else ()
    return (*found.known.fields(), *objects, *captions)


def _attributes(source: Source) -> dict[str, Any]:
    found = _found(source)
    names = {"categories": ["background", *(name for _, name in found.names)]} if found.names else {}
    return {**names, **({"skeletons": found.skeletons} if found.skeletons else {})}


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path, sample = item.paths[0], dict(item.scalars)
    picture = _coco_files.Picture(**sample.pop(_SAID))
    if not path.is_file():
        raise unreadable(path, f"there is no such picture, which {picture.origin} names", "Fetch it, or leave it out.")
    image = image_folder.decode(path, number(options, "max_pixels", image_folder.MAX_PIXELS), image_folder.as_picture)
    claimed = tuple(
        actual if given is None else given for given, actual in zip(picture.size, image.shape, strict=False)
    )
    if claimed != image.shape[:2]:
        problem = f"has {image.shape[1]} x {image.shape[0]} pixels, {picture.origin} says {claimed[1]} x {claimed[0]}"
        raise unreadable(path, problem, "Annotations are of another picture, or of one that was turned; mend them.")
    sample["image"] = image
    if picture.described:
        sample |= _objects(path, picture, item.place["points"])
        if any(entry.get("segmentation") for entry in picture.objects):
            sample["labels"] = _labels(path, picture, image.shape[:2])
    if picture.captions:
        sample["captions"] = picture.captions
    return sample


def _objects(path: Path, picture: _coco_files.Picture, points: Mapping[str, int]) -> dict[str, Any]:
    """What is said of each object; ``points`` is how many key points those of a category have."""
    names: dict[int, str] = dict(picture.names)
    for entry in picture.objects:
        problem = _problem(entry, names) or _pointless(entry, points.get(names[entry["category_id"]], 0))
        if problem:
            raise _at_fault(path, picture, entry, problem)
    marks = [[float(value) for value in entry.get("keypoints") or ()] for entry in picture.objects]
    found = [[flat[place : place + 3] for place in range(0, len(flat), 3)] for flat in marks]
    return {
        **({"keypoints": found} if points else {}),
        "boxes": [[float(value) for value in entry["bbox"]] for entry in picture.objects],
        "categories": [names[entry["category_id"]] for entry in picture.objects],
        "category_ids": [entry["category_id"] for entry in picture.objects],
        "areas": [None if entry.get("area") is None else float(entry["area"]) for entry in picture.objects],
        "iscrowd": [bool(entry.get("iscrowd", 0)) for entry in picture.objects],
    }


def _at_fault(path: Path, picture: _coco_files.Picture, entry: Mapping[str, Any], problem: object) -> UnreadableFile:
    return unreadable(path, f"object {entry.get('id')!r:.40} of {picture.described}: {problem}", "Mend it there.")


def _problem(entry: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """What is wrong with an object's box, category or area; empty where nothing is."""
    box, kind, area = entry.get("bbox"), entry.get("category_id"), entry.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(value) for value in box):
        return f"bbox must be four finite numbers; got {box!r:.80}"
    if type(kind) is not int or kind not in names:
        return f"category_id {kind!r:.40} is none of the categories"
    return "" if area is None or _is_finite(area) else f"area must be a finite number; got {area!r:.40}"


def _pointless(entry: Mapping[str, Any], count: int) -> str:
    """What is wrong with an object's key points, of which its category has ``count``; empty where nothing is."""
    points = entry.get("keypoints") or []
    if not isinstance(points, list) or len(points) not in (0, 3 * count) or not all(map(_is_finite, points)):
        return f"keypoints must be {3 * count} finite numbers, as its category has {count} points; got {points!r:.80}"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _labels(path: Path, picture: _coco_files.Picture, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Category per pixel [H, W], as a position in the attribute ``categories``; 0 where there is no object."""
    index = {identifier: position for position, (identifier, _) in enumerate(picture.names, 1)}
    labels = np.zeros(shape, dtype=np.uint8 if len(index) < 256 else np.uint16)
    for entry in picture.objects:
        try:
            _outlines.paint(labels, entry.get("segmentation") or [], index[entry["category_id"]])
        except ValueError as error:
            raise _at_fault(path, picture, entry, error) from error
    return labels


importer = Importer(
    name="coco",
    title="pictures with objects or captions in COCO's JSON form",
    modality="image",
    matches=_matches,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options={
        "max_bytes": f"refuse files of annotations that are larger (default {_coco_files.MAX_BYTES:.0f})",
        "max_pixels": image_folder.importer.options["max_pixels"],
        **_metadata.OPTIONS,
    },
)
