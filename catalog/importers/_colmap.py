"""Sparse models of COLMAP: ``cameras``, ``images`` and ``points3D``, as ``.bin`` or ``.txt``.

Parsed to the last byte or line: what is left over, missing, or not finite is an error that names the place. Poses are turned
from COLMAP's world to camera into camera to world; its camera's axes are ours (x right, y down, z forward), and so is the
origin of its pixels (the corner of the picture).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers import _text
from sensorium.catalog.importers._files import head, unreadable

__all__ = ["Camera", "View", "cameras", "find", "is_model", "points", "views"]

Floats = npt.NDArray[np.float64]

_MAX_BYTES = 1 << 31
_AGAIN = "Export the model anew from COLMAP."
#: COLMAP's numbers and names of the models that are read -> where fx, fy, cx, cy and k1, k2, p1, p2 are among the parameters;
#: k1, k2, k3, k4 of the fisheye's
_MODELS: dict[str, tuple[int, tuple[int, int, int, int], tuple[int | None, ...]]] = {
    "SIMPLE_PINHOLE": (3, (0, 0, 1, 2), (None, None, None, None)),
    "PINHOLE": (4, (0, 1, 2, 3), (None, None, None, None)),
    "SIMPLE_RADIAL": (4, (0, 0, 1, 2), (3, None, None, None)),
    "RADIAL": (5, (0, 0, 1, 2), (3, 4, None, None)),
    "OPENCV": (8, (0, 1, 2, 3), (4, 5, 6, 7)),
    "OPENCV_FISHEYE": (8, (0, 1, 2, 3), (4, 5, 6, 7)),
}
#: further ones have distortions of other forms
_NAMES = [
    *_MODELS,
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
]


@dataclass(frozen=True)
class Camera:
    """Intrinsics of a camera.

    Attributes:
        width, height: of its pictures, pixels.
        matrix: [3, 3].
        distortion: k1, k2, p1, p2, k3, or k1, k2, k3, k4, 0 of a fisheye.
        fisheye: whether it is a fisheye of OpenCV's model.
    """

    width: int
    height: int
    matrix: Floats
    distortion: Floats
    fisheye: bool


@dataclass(frozen=True)
class View:
    """A picture: its name, the number of its camera, and its pose [4, 4] from camera to world."""

    name: str
    camera: int
    pose: Floats


def find(folder: Path, name: str) -> Path | None:
    """``name.bin`` or, where there is none, ``name.txt``."""
    return next((path for end in (".bin", ".txt") if (path := folder / f"{name}{end}").is_file()), None)


def is_model(folder: Path) -> bool:
    """Whether the first camera of a folder is of a model of COLMAP, be it one that is read here or not."""
    path = find(folder, "cameras")
    start = head(path, 4096) if path is not None else b""
    if path is None or path.suffix == ".bin":
        if len(start) < 56:
            return False
        count, _, kind = struct.unpack("<Qii", start[:16])
        return bool(0 < count < 1 << 32 and 0 <= kind < len(_NAMES))
    first = next((line for line in start.splitlines() if line.strip() and not line.startswith(b"#")), b"").split()
    return len(first) > 4 and first[1].decode("ascii", "replace") in _NAMES


class _Bytes:
    """A binary file, read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise unreadable(path, f"has more than {_MAX_BYTES} bytes", "Leave it out.")
            self.content = path.read_bytes()
        except OSError as error:
            raise unreadable(path, f"cannot be read ({error.strerror})", _AGAIN) from error

    def take(self, form: str) -> tuple[Any, ...]:
        length = struct.calcsize(form)
        if self.place + length > len(self.content):
            raise unreadable(self.path, f"ends at byte {len(self.content)}, within an entry", _AGAIN)
        values = struct.unpack_from(form, self.content, self.place)
        self.place += length
        return values

    def skip(self, count: int, length: int) -> None:
        if count * length > len(self.content) - self.place:
            raise unreadable(self.path, f"an entry before byte {self.place} claims a list of {count}", _AGAIN)
        self.place += count * length

    def name(self) -> str:
        end = self.content.find(b"\0", self.place)
        if end < 0:
            raise unreadable(self.path, f"the name at byte {self.place} has no end", _AGAIN)
        text = self.content[self.place : end].decode("utf-8", "surrogateescape")
        self.place = end + 1
        return text

    def count(self, least: int) -> int:
        """The number of entries, which take ``least`` bytes or more each."""
        (count,) = self.take("<Q")
        if count * least > len(self.content) - self.place:
            raise unreadable(self.path, f"claims {count} entries, in {len(self.content)} bytes", _AGAIN)
        return int(count)

    def close(self) -> None:
        if self.place != len(self.content):
            raise unreadable(self.path, f"has {len(self.content) - self.place} bytes too many", _AGAIN)


def _rows(path: Path, least: int, parts: int = -1) -> list[tuple[int, list[str]]]:
    """Numbered lines that are no comments, split."""
    found = []
    for number, line in enumerate(_text.lines(path), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append((number, _split(path, number, line, least, parts)))
    return found


def _split(path: Path, number: int, line: str, least: int, parts: int) -> list[str]:
    words = line.split(maxsplit=parts) if parts > 0 else line.split()
    if len(words) < least:
        raise unreadable(path, f"line {number} has {len(words)} words, fewer than {least}", _AGAIN)
    return words


def _parsed(path: Path, number: int, kind: Callable[[str], Any], words: Sequence[str]) -> list[Any]:
    try:
        return [kind(word) for word in words]
    except ValueError as error:
        raise unreadable(path, f"line {number}: {error}", _AGAIN) from error


def cameras(path: Path) -> dict[int, Camera]:
    """The cameras of a model by their numbers.

    Raises:
        UnreadableFile: it is no such file, or a camera is of a model whose distortion is not known here.
    """
    found: dict[int, Camera] = {}
    if path.suffix == ".txt":
        for number, words in _rows(path, 5):
            identifier, width, height = _parsed(path, number, int, [words[0], *words[2:4]])
            parameters = _parsed(path, number, float, words[4:])
            found[identifier] = _camera(path, words[1], width, height, parameters)
        return found
    stream = _Bytes(path)
    for _ in range(stream.count(48)):
        identifier, kind, width, height = stream.take("<iiQQ")
        model = _NAMES[kind] if 0 <= kind < len(_NAMES) else f"number {kind}"
        parameters = list(stream.take(f"<{_MODELS[model][0]}d")) if model in _MODELS else []
        found[identifier] = _camera(path, model, width, height, parameters)
    stream.close()
    return found


def _camera(path: Path, model: str, width: int, height: int, parameters: list[float]) -> Camera:
    if model not in _MODELS:
        problem = f"has a camera of model {model}; {', '.join(_MODELS)} are read"
        raise unreadable(path, problem, "Undistort the pictures with COLMAP's image_undistorter.")
    count, focal, bent = _MODELS[model]
    if len(parameters) != count or not all(map(math.isfinite, parameters)) or min(width, height) < 1:
        raise unreadable(path, f"a camera {model} of {width} x {height} pixels has parameters {parameters}", _AGAIN)
    fx, fy, cx, cy = (parameters[place] for place in focal)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
    distortion = np.array([0.0 if place is None else parameters[place] for place in bent] + [0.0])
    return Camera(width, height, matrix, distortion, model == "OPENCV_FISHEYE")


def views(path: Path) -> list[View]:
    """The pictures of a model, sorted by name.

    Raises:
        UnreadableFile: it is no such file.
    """
    found = _views_of_text(path) if path.suffix == ".txt" else _views_of_bytes(path)
    return sorted(found, key=lambda view: view.name)


def _views_of_text(path: Path) -> list[View]:
    """Two lines a picture: the second, of the points in it, may be empty."""
    found = []
    first = True
    for number, line in enumerate(_text.lines(path), 1):
        if line.lstrip().startswith("#"):
            continue
        if first and line.strip():
            words = _split(path, number, line.rstrip(), 10, 9)
            place, camera = _parsed(path, number, float, words[1:8]), _parsed(path, number, int, words[8:9])[0]
            found.append(View(words[9], camera, _pose(path, words[9], place)))
            first = False
        elif not first:
            first = True
    return found


def _views_of_bytes(path: Path) -> list[View]:
    found = []
    stream = _Bytes(path)
    for _ in range(stream.count(73)):
        _, *place, camera = stream.take("<i7di")
        name = stream.name()
        stream.skip(stream.take("<Q")[0], 24)
        found.append(View(name, camera, _pose(path, name, place)))
    stream.close()
    return found


def _pose(path: Path, name: str, place: Sequence[float]) -> Floats:
    """Camera to world [4, 4], of a quaternion (w, x, y, z) and a translation from world to camera."""
    w, x, y, z = place[:4]
    length = math.hypot(w, x, y, z)
    if not all(map(math.isfinite, place)) or length == 0:
        raise unreadable(path, f"picture {name!r} has the pose {list(place)}", _AGAIN)
    w, x, y, z = w / length, x / length, y / length, z / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ np.array(place[4:])
    return pose


def points(path: Path) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Positions [N, 3] and colours [N, 3] of the points of a model.

    Raises:
        UnreadableFile: it is no such file.
    """
    where: list[list[float]] = []
    colours: list[list[int]] = []
    if path.suffix == ".txt":
        for number, words in _rows(path, 8):
            where.append(_parsed(path, number, float, words[1:4]))
            colours.append(_parsed(path, number, int, words[4:7]))
    else:
        stream = _Bytes(path)
        for _ in range(stream.count(51)):
            _, *values = stream.take("<Q3d3Bd")
            where.append(values[:3])
            colours.append(values[3:6])
            stream.skip(stream.take("<Q")[0], 8)
        stream.close()
    positions = np.array(where, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(positions).all() or not all(0 <= value <= 255 for colour in colours for value in colour):
        raise unreadable(path, "has a point that is not finite, or a colour beyond 0 to 255", _AGAIN)
    return positions, np.array(colours, dtype=np.uint8).reshape(-1, 3)
