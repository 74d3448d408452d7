"""Posed views of scenes: ``transforms.json`` (NeRF, instant-ngp, nerfstudio), sparse models of COLMAP, LLFF.

A scene is a sample. ``images`` is [V, H, W, C], as files have them; views must be of one size. ``intrinsics`` is [V, 3, 3] in
pixels of these images: where a file speaks of pictures of another size, it is scaled. ``poses`` is [V, 4, 4], camera to world,
with the axes of the modality (x right, y down, z forward), to which those of NeRF and LLFF are turned; the world stays as it
was. Views are in the order of the file, those of COLMAP and LLFF by the names of their pictures.

Further: ``views`` (names of the pictures), ``masks`` [V, H, W] (1 where the alpha of RGBA is at least half, where it is not
the same everywhere), ``distortion`` [V, 5] (k1, k2, p1, p2, k3 of OpenCV; pictures are not undistorted) where there is any,
``points`` [P, 3] and ``point_colours`` [P, 3] of COLMAP, ``near`` and ``far`` [V] of LLFF, ``layout``. Where a view is of a
fisheye, ``cameras`` [V] says ``fisheye`` or ``perspective``; a fisheye's distortion is k1, k2, k3, k4 of OpenCV's, and 0.

Where a folder has several layouts of one scene, the first of transforms, colmap and llff is taken, or that of the option.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _colmap, _metadata, _transforms, image_folder
from sensorium.catalog.importers._files import number, once, unreadable
from sensorium.catalog.importers._transforms import Posed
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer"]

Array = npt.NDArray[Any]

_MAX_BYTES = 8e9
#: surer than an importer of folders of pictures can be
_SURE = 0.95
_LAYOUTS = ("transforms", "colmap", "llff")
_WALKED = 20_000
_SPLITS = {"train": "train", "val": "val", "test": "test"}
_FIELDS: tuple[Field, ...] = (
    ArrayField(
        "distortion",
        "V K",
        dtypes=("float64",),
        sizes={"K": (5,)},
        codec="zstd",
        description="k1, k2, p1, p2, k3 of OpenCV, or k1, k2, k3, k4, 0 of its fisheye",
    ),
    ScalarField("cameras", pa.list_(pa.string()), dims="V", description="perspective or fisheye, of each view"),
    ArrayField("points", "P X", dtypes=("float64",), sizes={"X": (3,)}, codec="zstd", description="in the world"),
    ArrayField("point_colours", "P X", dtypes=("uint8",), sizes={"X": (3,)}, codec="zstd", description="RGB"),
    ScalarField("views", pa.list_(pa.string()), dims="V", description="names of the pictures"),
    ScalarField(
        "near", pa.list_(pa.float64()), dims="V", description="nearest depth of each view, in units of the world"
    ),
    ScalarField("far", pa.list_(pa.float64()), dims="V", description="farthest depth of each view, likewise"),
    ScalarField("layout", pa.string(), description="of the files: transforms, colmap or llff"),
)
_RESERVED = ("images", "intrinsics", "poses", "masks", *(field.name for field in _FIELDS))
_SPLIT = "Import views of each size as a scene of their own, or resample them."


def _layout(path: Path) -> str:
    """The layout that a file belongs to; empty for none."""
    name = path.name.lower()
    if name.startswith("transforms") and name.endswith(".json"):
        return "transforms" if _transforms.is_transforms(path) else ""
    if name in ("images.bin", "images.txt") and _colmap.find(path.parent, "images") == path:  # of both the .bin is read
        return "colmap" if _colmap.is_model(path.parent) else ""
    if name == "poses_bounds.npy":
        return "llff" if _transforms.is_llff(path) else ""
    return ""


def _scene(path: Path, layout: str) -> Path:
    """The folder of the scene that a file belongs to."""
    folder = path.parent
    if layout == "colmap" and folder.name.isdigit() and folder.parent.name == "sparse":
        return folder.parent.parent
    return folder.parent if layout == "colmap" and folder.name == "sparse" else folder


def _candidates(source: Source) -> Iterator[Path]:
    if source.path.is_file():
        yield source.path
        return
    for parent, folders, names in itertools.islice(os.walk(source.path), _WALKED):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            Path(parent, name) for name in sorted(names) if name.startswith(("transforms", "images.", "poses_bounds"))
        )


@once
def _found(source: Source) -> dict[Path, str]:
    """The files that describe scenes, with their layouts."""
    wanted = source.options.get("layout", "auto")
    if wanted not in ("auto", *_LAYOUTS):
        raise InvalidSetting(f"layout must be auto, {', '.join(_LAYOUTS)}; got {wanted!r}.")
    files = {path: layout for path in _candidates(source) if (layout := _layout(path))}
    there: dict[Path, set[str]] = {}
    for path, layout in files.items():
        there.setdefault(_scene(path, layout), set()).add(layout)
    return {
        path: layout
        for path, layout in files.items()
        if layout == wanted
        or (wanted == "auto" and layout == next(one for one in _LAYOUTS if one in there[_scene(path, layout)]))
    }


def _matches(source: Source) -> float:
    return _SURE * bool(_found(source))


def _identifiers(source: Source) -> dict[str, Path]:
    """The scene's folder below the source, with what parts several of one folder: train, test, or a model's number."""
    found: dict[str, Path] = {}
    for path, layout in _found(source).items():
        folder = _scene(path, layout)
        inside = source.path.is_dir() and folder != source.path and folder.is_relative_to(source.path)
        name = folder.relative_to(source.path).as_posix() if inside else ""
        part = path.stem.removeprefix("transforms").lstrip("_-.") if layout == "transforms" else ""
        if layout == "colmap" and path.parent.name.isdigit() and len(list(path.parent.parent.glob("*/images.*"))) > 1:
            part = path.parent.name
        found["/".join(text for text in (name, part) if text) or folder.name or "scene"] = path
    return found


@once
def _known(source: Source) -> _metadata.Known:
    owners = _identifiers(source)
    if not owners:
        says = "there is no such file or folder" if not source.path.exists() else "no scene is in it"
        remedy = "Name a folder with transforms.json, a sparse model of COLMAP, or poses_bounds.npy."
        raise unreadable(source.path, says, remedy)
    known = _metadata.known(source, owners, _RESERVED, label="none")
    splits = {name: {"split": part} for name in owners if (part := _SPLITS.get(name.rpartition("/")[2]))}
    if splits and "split" not in known.types:
        known.add({"split": pa.string()}, splits)
    return known


def _plan(source: Source) -> Iterator[Item]:
    rows = _known(source).rows
    inside = source.path if source.path.is_dir() else source.path.parent
    for name, path in _identifiers(source).items():
        yield Item(name, (path,), rows[name], {"layout": _found(source)[path], "inside": str(inside)})


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_FIELDS)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path, layout = item.paths[0], str(item.place["layout"])
    extra: dict[str, Any] = {}
    if layout == "transforms":
        views = _transforms.transforms(path, Path(item.place["inside"]), lambda picture: _size(picture, path))
    elif layout == "colmap":
        views, extra = _of_colmap(path, options)
    else:
        views, extra = _of_llff(path, options)
    images = _images(path, views, options)
    height, width = images.shape[1:3]
    intrinsics = np.stack([view.matrix for view in views])
    for place, view in enumerate(views):
        across, down = view.size or (width, height)
        if abs(across * height - down * width) > max(across, down, width, height):  # a pixel of rounding is usual
            problem = f"view {view.name!r} is said to have {across:g} x {down:g} pixels, and has {width} x {height}"
            raise unreadable(path, problem, "Turn or crop it as it was when the cameras were found.")
        intrinsics[place, :2] *= np.array([[width / across], [height / down]])
    distortion = np.stack([view.distortion for view in views])
    sample = {
        **item.scalars,
        "images": images,
        "intrinsics": intrinsics,
        "poses": np.stack([view.pose for view in views]),
        "views": [view.name for view in views],
        "layout": layout,
        **extra,
    }
    if any(view.fisheye for view in views):
        sample["cameras"] = ["fisheye" if view.fisheye else "perspective" for view in views]
    if distortion.any():
        sample["distortion"] = distortion
    if images.shape[3] == 4 and (images[..., 3] != images.flat[3]).any():
        half = np.iinfo(images.dtype).max / 2 if images.dtype.kind in "iu" else 0.5
        sample["masks"] = (images[..., 3] >= half).astype(np.uint8)
    return sample


def _of_colmap(path: Path, options: Mapping[str, str]) -> tuple[list[Posed], dict[str, Any]]:
    folder = _scene(path, "colmap") / options.get("images", "images")
    listed = _colmap.find(path.parent, "cameras")
    if listed is None:
        raise unreadable(path, "there is no cameras.bin or cameras.txt beside it", "Export the model anew from COLMAP.")
    cameras = _colmap.cameras(listed)
    views = []
    for view in _colmap.views(path):
        camera = cameras.get(view.camera)
        if camera is None:
            raise unreadable(path, f"{view.name!r} is of camera {view.camera}, which is not there", "Export it anew.")
        picture = folder / view.name
        if Path(view.name).is_absolute() or ".." in Path(view.name).parts or not picture.is_file():
            problem = f"picture {view.name!r} is not in {folder}"
            raise unreadable(path, problem, "Fetch it, or name the folder of the pictures with images=FOLDER.")
        size = (float(camera.width), float(camera.height))
        views.append(Posed(view.name, picture, size, camera.matrix, view.pose, camera.distortion, camera.fisheye))
    cloud = _colmap.find(path.parent, "points3D")
    if cloud is None:
        return views, {}
    points, colours = _colmap.points(cloud)
    return views, {"points": points, "point_colours": colours} if len(points) else {}


def _of_llff(path: Path, options: Mapping[str, str]) -> tuple[list[Posed], dict[str, Any]]:
    folder = path.parent / options.get("images", "images")
    posed, bounds = _transforms.llff(path)
    pictures = sorted(one for one in folder.glob("*") if one.suffix.lower() in image_folder.SUFFIXES)
    if len(pictures) != len(posed):
        problem = f"has {len(posed)} views, and {folder} has {len(pictures)} pictures"
        raise unreadable(path, problem, "Name the folder of its pictures with images=FOLDER.")
    views = [
        Posed(picture.name, picture, view.size, view.matrix, view.pose, view.distortion)
        for picture, view in zip(pictures, posed, strict=True)
    ]
    return views, {"near": bounds[:, 0].tolist(), "far": bounds[:, 1].tolist()}


def _size(picture: Path, owner: Path) -> tuple[int, int]:
    """Width and height, by the header."""
    size = image_folder.size(picture)
    if size is None:
        raise unreadable(owner, f"the picture {picture} is no picture", "Fetch it anew, or take its view out.")
    return size


def _images(path: Path, views: list[Posed], options: Mapping[str, str]) -> Array:
    """The pictures [V, H, W, C], once their headers agree and are within the limits."""
    if not views:
        raise unreadable(path, "has no views", "Leave it out.")
    pictures = [view.path for view in views if view.path is not None]
    limit = number(options, "max_bytes", _MAX_BYTES)
    first = _size(pictures[0], path)
    for picture in pictures[1:]:
        if _size(picture, path) != first:
            width, height = _size(picture, path)
            problem = f"{pictures[0].name} has {first[0]} x {first[1]} pixels, {picture.name} has {width} x {height}"
            raise unreadable(path, problem, _SPLIT)
    claimed = len(pictures) * first[0] * first[1] * 3
    if claimed > limit:
        raise unreadable(
            path,
            f"its {len(pictures)} views of {first[0]} x {first[1]} pixels have about {claimed} bytes, more than {limit:g}",
            f"Make them smaller, or, if it is real, raise the limit with max_bytes={claimed}.",
        )
    images: Array | None = None
    for place, picture in enumerate(pictures):
        image = image_folder.decode(picture, image_folder.MAX_PIXELS, image_folder.as_picture)
        if images is None:
            images = np.empty((len(pictures), *image.shape), image.dtype)
        if image.shape != images.shape[1:] or image.dtype != images.dtype:
            first_is = f"{pictures[0].name} is {images.shape[1:]} of {images.dtype}"
            problem = f"{first_is}, {picture.name} is {image.shape} of {image.dtype}"
            raise unreadable(path, problem, _SPLIT)
        images[place] = image
    return np.asarray(images)


importer = Importer(
    name="scenes",
    title="posed views: transforms.json, COLMAP, LLFF",
    modality="scene",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "layout": "auto (default), transforms, colmap or llff, where a scene has several",
        "images": "folder of the pictures of COLMAP and LLFF, below that of the scene (default images)",
        "max_bytes": f"refuse scenes whose views have more (default {_MAX_BYTES:.0f})",
        **_metadata.OPTIONS,
    },
)
