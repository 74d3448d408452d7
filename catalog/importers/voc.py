"""Annotations in the XML form of Pascal VOC, with the pictures that they speak of.

``Annotations/NAME.xml`` goes with ``JPEGImages/NAME.jpg`` (or a folder ``images``) beside its folder; an XML file may also
lie beside its picture. Pictures without a file of annotations are left out.

``image`` is as importers of picture folders read it. Per sample, in the file's order: ``boxes`` (x, y, width, height in
pixels from the top left corner), ``categories``, and ``difficult``, ``truncated`` and ``occluded``. The format counts pixels
from 1, and a box holds both of its corners: 1, 1, 10, 10 is the box 0, 0, 10 x 10. Programs that write the format but
count from 0 are told of with ``first_pixel=0``; a box's far corner is beyond it then.

``SegmentationClass/NAME.png`` becomes ``labels`` [H, W] with the file's own values: 0 for the background, 255 for what is
not to be judged. ``split`` comes from the lists ``train.txt``, ``val.txt``, ``test.txt`` and ``trainval.txt`` of
``ImageSets/Main``. Where those lists are of the 20 classes that the challenge had, the attribute ``categories`` names the
values of ``labels``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata, image_folder
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, stem, unreadable, visible
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["importer"]

_SUFFIXES = frozenset((".xml",))
#: folders of pictures beside a folder of annotations, best first; the last is the annotations' own
_PICTURES = ("JPEGImages", "images", "Images", "img", "imgs", ".")
_LABELS = "SegmentationClass"
_LISTS = ("trainval", "test", "val", "train")
#: more sure than an importer of plain pictures, which is at most 0.9 and would lose the objects
_SURE = 0.97
#: the largest file of the challenge has some 20 kB
_MAX_BYTES = 10e6
_RESERVED = ("image", "labels", "boxes", "categories", "difficult", "truncated", "occluded")
_MEND = "Export the annotations anew, or leave the file out."

#: of the challenge, 2007 to 2012; their positions are the values of its labels
_CLASSES = (
    *(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
    ),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_FLAGS = {
    "difficult": "whether it is not to be judged",
    "truncated": "whether the box holds a part of it only",
    "occluded": "whether something hides a part of it",
}
_FIELDS = (
    ScalarField(
        "boxes",
        pa.list_(pa.list_(pa.float64())),
        unit="px",
        required=True,
        description="x, y, width and height of each object, from the top left corner",
    ),
    ScalarField("categories", pa.list_(pa.string()), required=True, description="what each object is"),
    *(ScalarField(name, pa.list_(pa.bool_()), description=text) for name, text in _FLAGS.items()),
)


def _matches(source: Source) -> float:
    if source.path.is_file():
        return _SURE * _is_annotation(source.path)
    return _SURE / 0.9 * probe(source, _SUFFIXES | image_folder.SUFFIXES, _judge)


def _judge(path: Path) -> float | None:
    """Of a file of annotations, whether it is ours; pictures say nothing, unless one lies beside them."""
    if suffix(path) in _SUFFIXES:
        return float(_is_annotation(path))
    beside = path.with_suffix(".xml")
    return float(_is_annotation(beside)) if beside.is_file() else None


def _is_annotation(path: Path) -> bool:
    start = head(path, 4096)
    return b"<annotation" in start and any(name in start for name in (b"<filename", b"<size", b"<object"))


@once
def _pictures(source: Source) -> dict[Path, Path]:
    """The picture of each file of annotations."""
    files = [path for path in visible(source, _SUFFIXES) if _is_annotation(path)]
    if not files:
        raise unreadable(source.path, "no XML file in it is one of annotations", "Name the folder above Annotations.")
    return {path: _picture(path) for path in files}


def _picture(path: Path) -> Path:
    """The picture of a file of annotations; where there is none, the place where it should be."""
    places = [path.parent.parent / folder for folder in _PICTURES[:-1]]
    for folder in (*places, path.parent):
        for ending in sorted(image_folder.SUFFIXES):
            for name in (f"{path.stem}{ending}", f"{path.stem}{ending.upper()}"):
                if (folder / name).is_file():
                    return folder / name
    return places[0] / f"{path.stem}.jpg"


@once
def _known(source: Source) -> _metadata.Known:
    pictures = _pictures(source)
    known = _metadata.of_files(source, pictures, (*_RESERVED, "split"), label="none")
    splits = _splits(source)
    if splits and "split" not in known.types:
        known.add({"split": pa.string()}, {path: {"split": splits.get((_year(path), stem(path)))} for path in pictures})
    return known


def _year(path: Path) -> Path:
    """The folder that holds ``Annotations``, ``JPEGImages`` and ``ImageSets``."""
    return path.parent.parent


def _splits(source: Source) -> dict[tuple[Path, str], str]:
    """Split of each picture, by the folder of its year and its name; train and val before trainval."""
    splits: dict[tuple[Path, str], str] = {}
    for year in sorted({_year(path) for path in _pictures(source)}):
        for name in _LISTS:
            path = year / "ImageSets" / "Main" / f"{name}.txt"
            if not path.is_file():
                continue
            try:
                lines = path.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise unreadable(path, f"cannot be read ({error})", "Save it as UTF-8 text, a name a line.") from error
            splits.update({(year, line.split()[0]): name for line in lines if line.strip()})
    return splits


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    _first_pixel(source.options)
    for path, name in identifiers(source, scalars).items():
        labels = _year(path) / _LABELS / f"{path.stem}.png"
        picture = _pictures(source)[path]
        yield Item(name, (picture, path, *([labels] if labels.is_file() else [])), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_FIELDS)


def _attributes(source: Source) -> dict[str, Any]:
    years = {_year(path) for path in _pictures(source)}
    known = all((year / "ImageSets" / "Main" / f"{name}_val.txt").is_file() for year in years for name in _CLASSES[1:])
    return {"categories": list(_CLASSES)} if known else {}


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    picture, path, *labels = item.paths
    root = _parsed(path)
    if not picture.is_file():
        problem = (
            f"there is no picture {picture.stem} in {', '.join(_PICTURES[:2])} beside its folder, or beside {path}"
        )
        raise unreadable(picture, problem, "Fetch it, or leave its annotations out.")
    limit = number(options, "max_pixels", image_folder.MAX_PIXELS)
    sample = {**item.scalars, "image": image_folder.decode(picture, limit, image_folder.as_picture)}
    height, width = sample["image"].shape[:2]
    claimed = tuple(_whole(root.findtext(f"size/{name}")) for name in ("width", "height"))
    if all(claimed) and claimed != (width, height):  # 0 x 0 is what some programs write for "unknown"
        problem = f"is of a picture of {claimed[0]} x {claimed[1]} pixels, {picture.name} has {width} x {height}"
        raise unreadable(path, problem, "Mend the annotations, or turn the picture back.")
    objects = root.findall("object")
    sample["boxes"] = [_box(path, entry, _first_pixel(options)) for entry in objects]
    sample["categories"] = [(entry.findtext("name") or "").strip() for entry in objects]
    if not all(sample["categories"]):
        raise unreadable(path, f"object {sample['categories'].index('') + 1} has no name", _MEND)
    for flag in _FLAGS:
        sample[flag] = [(entry.findtext(flag) or "0").strip().lower() in ("1", "true") for entry in objects]
    for mark in labels:
        sample["labels"] = image_folder.decode(mark, limit, image_folder.as_mask)
    return sample


def _parsed(path: Path) -> Any:
    """The root element of a file of annotations. Entities, which may inflate without end, are not expanded."""
    tree = require("defusedxml.ElementTree", "read annotations in XML")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise unreadable(path, f"has {size} bytes, more than annotations of a picture have", "Leave it out.")
        root = tree.fromstring(path.read_bytes(), forbid_dtd=True)
    except (OSError, ValueError, tree.ParseError, RecursionError) as error:  # what is forbidden is a ValueError
        raise unreadable(path, f"is no plain XML file ({type(error).__name__}: {error})", _MEND) from error
    if root.tag != "annotation":
        raise unreadable(path, f"is about {root.tag!r:.40}, not a file of annotations", "Leave it out.")
    return root


def _box(path: Path, entry: Any, first: int) -> list[float]:
    """x, y, width and height, the top left pixel being 0, 0."""
    corners = [_number(entry.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
    if not all(math.isfinite(value) for value in corners):
        raise unreadable(path, f"object {(entry.findtext('name') or '')!r:.40} has no box of four numbers", _MEND)
    left, top, right, bottom = corners
    if right < left or bottom < top:
        raise unreadable(path, f"the box {corners} ends before it begins", _MEND)
    return [left - first, top - first, right - left + first, bottom - top + first]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _whole(text: str | None) -> int:
    return int(text) if text and text.strip().isascii() and text.strip().isdigit() and len(text) < 10 else 0


def _first_pixel(options: Mapping[str, str]) -> int:
    text = options.get("first_pixel", "1")
    if text not in ("0", "1"):
        raise InvalidSetting(f"first_pixel must be 0 or 1, what the annotations count pixels from; got {text!r}.")
    return int(text)


importer = Importer(
    name="voc",
    title="pictures with objects in the XML form of Pascal VOC",
    modality="image",
    matches=_matches,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options={
        "first_pixel": "number of the first column and row in the annotations: 1 (default, as the format says) or 0",
        "max_pixels": image_folder.importer.options["max_pixels"],
        **_metadata.OPTIONS,
    },
)
