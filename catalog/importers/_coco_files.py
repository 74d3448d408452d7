"""Files of annotations in COCO's JSON form: which they are, and what they say of each picture."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensorium.catalog.importer import Source, suffix
from sensorium.catalog.importers._files import head, number, unreadable

__all__ = ["MAX_BYTES", "Picture", "categories", "documents", "is_there", "merge", "pictures", "skeletons"]

_log = logging.getLogger(__name__)

MAX_BYTES = 2e9
#: so much of a file says whose it is; most lists of pictures begin within it
_HEAD = 1 << 20
_PROBED = 64
_EXPORT = "Export the annotations anew."


@dataclass
class Picture:
    """What annotations say of one picture, in JSON's types, as items carry it to their reader.

    Attributes:
        name: in the annotations.
        size: height and width, None where they are not said.
        origin: file of the annotations.
        names: id and name of each category, in the order of ids.
        described: file that has its objects; empty where only captions are there.
        objects: annotations as they stand.
        captions: sentences.
    """

    name: str
    size: list[Any]
    origin: str
    names: list[list[Any]]
    described: str = ""
    objects: list[dict[str, Any]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def is_there(source: Source) -> bool:
    """Whether the source has a file of annotations, judged by how the first candidates begin."""
    return any(_looks_annotated(path) for path in _candidates(source)[:_PROBED])


def documents(source: Source) -> dict[Path, dict[str, Any]]:
    """The files of annotations of a source, each with its ``images``, ``annotations`` and ``categories``.

    Raises:
        UnreadableFile: one is broken or too large, or there is none.
    """
    read = {path: _document(path, source) for path in _candidates(source) if _looks_annotated(path)}
    found = _without_repeats({path: parts for path, parts in read.items() if parts is not None})
    if not found:
        problem = "has no JSON file with images and annotations in COCO's form"
        raise unreadable(source.path, problem, "Name the folder that holds annotations and pictures.")
    return found


def _candidates(source: Source) -> list[Path]:
    """JSON files where annotations lie: the source itself, or up to two folders below it."""
    if source.path.is_file():
        return [source.path] if suffix(source.path) == ".json" else []
    found = [path for pattern in ("*.json", "*/*.json", "*/*/*.json") for path in sorted(source.path.glob(pattern))]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(source.path).parts)]


def _looks_annotated(path: Path) -> bool:
    start = head(path, _HEAD)
    pictures = re.search(rb'"images"\s*:\s*\[', start) and b'"file_name"' in start
    marks = re.search(rb'"annotations"\s*:\s*\[', start) and (b'"image_id"' in start or len(start) < _HEAD)
    return bool(pictures and marks) if len(start) < _HEAD else bool(pictures or marks)


def _document(path: Path, source: Source) -> dict[str, Any] | None:
    """The parts of an annotations' file; None for one that speaks of no objects and has no captions."""
    limit = number(source.options, "max_bytes", MAX_BYTES)
    if path.stat().st_size > limit:
        problem = f"has {path.stat().st_size} bytes, more than the limit of {limit:g}"
        raise unreadable(path, problem, f"Split it, or raise the limit with max_bytes={path.stat().st_size}.")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, f"is no JSON file ({error})", _EXPORT) from error
    if not isinstance(document, dict):
        return None
    parts = {name: document.get(name) for name in ("images", "annotations", "categories")}
    parts["categories"] = parts["categories"] or []
    for name, entries in parts.items():
        if entries is None:
            return None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise unreadable(path, f"its {name!r} are no list of objects", _EXPORT)
    return None if any("segments_info" in entry for entry in parts["annotations"] or ()) else parts


def _without_repeats(documents: dict[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Where files of key points repeat the objects of others, their points go to these objects, and the files are left out."""
    points = [path for path, parts in documents.items() if any("keypoints" in entry for entry in parts["categories"])]
    others = [path for path, parts in documents.items() if path not in points and parts["categories"]]
    if not others:
        return documents
    for path in points:
        named = {str(entry.get("id")): entry for entry in documents[path]["categories"]}
        marked = {_key(entry): entry["keypoints"] for entry in documents[path]["annotations"] if "keypoints" in entry}
        count = len(marked)
        # ids count anew in each split, which files are called after
        split = [other for other in others if other.stem.rpartition("_")[2] == path.stem.rpartition("_")[2]]
        for other in split or others:
            for entry in documents[other]["categories"]:
                same = named.get(str(entry.get("id")), {})
                entry.update({key: same[key] for key in ("keypoints", "skeleton") if key in same})
            for entry in documents[other]["annotations"]:
                if _key(entry) in marked:
                    entry["keypoints"] = marked.pop(_key(entry))
        if marked:
            _log.warning("%s: %d of %d key points are of no object of other files; left out", path, len(marked), count)
    return {path: parts for path, parts in documents.items() if path not in points}


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What the same object has in several files."""
    return str(entry.get("image_id")), str(entry.get("id"))


def skeletons(documents: Mapping[Path, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Category -> ``names`` of its key points, and its ``edges``, pairs of positions among them from 0.

    Raises:
        UnreadableFile: they are described otherwise, or in two ways.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, entry in ((path, entry) for path, parts in documents.items() for entry in parts["categories"]):
        if "keypoints" not in entry:
            continue
        names, edges = entry["keypoints"], entry.get("skeleton") or []
        good = isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(edges, list)
        if not good or not all(_is_edge(edge, len(names)) for edge in edges):
            raise unreadable(path, f"category {entry.get('name')!r:.40} has key points of no known form", _EXPORT)
        one = {"names": names, "edges": [[first - 1, second - 1] for first, second in edges]}
        if found.setdefault(str(entry.get("name")), one) != one:
            problem = f"category {entry.get('name')!r} has other key points here than elsewhere"
            raise unreadable(path, problem, "Import the files into different data sets.")
    return found


def _is_edge(edge: Any, count: int) -> bool:
    """Whether a skeleton's entry is two numbers of points, which COCO counts from 1."""
    return isinstance(edge, list) and len(edge) == 2 and all(type(end) is int and 1 <= end <= count for end in edge)


def categories(documents: Mapping[Path, Mapping[str, Any]]) -> list[list[Any]]:
    """Id and name of each category of all files, in the order of ids."""
    names: dict[int, str] = {}
    for path, entry in ((path, entry) for path, parts in documents.items() for entry in parts["categories"]):
        identifier, name = entry.get("id"), entry.get("name")
        if type(identifier) is not int or not isinstance(name, str):
            raise unreadable(path, f"a category has no number or name ({entry!r:.80})", _EXPORT)
        if names.setdefault(identifier, name) != name:
            problem = f"category {identifier} is {name!r} here and {names[identifier]!r} elsewhere"
            raise unreadable(path, problem, "Import the files into different data sets.")
    return [[identifier, names[identifier]] for identifier in sorted(names)]


def pictures(path: Path, document: Mapping[str, Any], names: list[list[Any]]) -> dict[Any, Picture]:
    """What one file says of each picture, by the picture's id in that file; they all share ``names``."""
    pictures: dict[Any, Picture] = {}
    for entry in document["images"]:
        identifier, name = entry.get("id"), entry.get("file_name")
        if not isinstance(identifier, int | str) or not isinstance(name, str) or not name:
            raise unreadable(path, f"a picture has no id or file_name ({entry!r:.80})", _EXPORT)
        if identifier in pictures:
            raise unreadable(path, f"picture {identifier!r} is there twice", _EXPORT)
        pictures[identifier] = Picture(name, [entry.get("height"), entry.get("width")], str(path), names)
    strangers = 0
    for entry in document["annotations"]:
        owner = entry.get("image_id")
        if not isinstance(owner, int | str) or owner not in pictures:
            strangers += 1
        elif "caption" in entry:
            pictures[owner].captions.append(str(entry["caption"]))
        else:
            pictures[owner].objects.append(entry)
    if strangers:
        _log.warning("%s: %d annotations are of no picture; left out", path, strangers)
    if document["categories"]:
        for picture in pictures.values():
            picture.described = str(path)
    return pictures


def merge(path: Path, whole: Picture, part: Picture) -> None:
    """Add to a picture what the file ``path`` says of it; its objects may come from one file only."""
    if part.described and whole.described:
        problem = f"{part.name!r} has objects here and in {whole.described}"
        raise unreadable(path, problem, "Import the files into different data sets.")
    whole.described = whole.described or part.described
    whole.objects += part.objects
    whole.captions += part.captions
