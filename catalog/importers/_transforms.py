"""Posed views by ``transforms.json``, as NeRF, instant-ngp and nerfstudio write it, and by LLFF's ``poses_bounds.npy``.

Both have cameras that look along their negative z axis. Their poses are turned to the axes of the modality scene: x right, y
down, z forward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import head, unreadable

__all__ = ["Posed", "is_llff", "is_transforms", "llff", "transforms"]

Floats = npt.NDArray[np.float64]

_MAX_BYTES = 1 << 28
_MEND = "Mend the file, or export it anew."
_DISTORTION = ("k1", "k2", "p1", "p2", "k3")
_OF_FISHEYE = ("k1", "k2", "k3", "k4")
_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Posed:
    """A view as a file describes it.

    Attributes:
        name: of its picture, as the file has it.
        path: of its picture; None where the file names none.
        size: width and height of the picture that the matrix is of, where they are said.
        matrix: intrinsics [3, 3]; where the size is not said, of the picture as it is.
        pose: [4, 4], camera to world.
        distortion: k1, k2, p1, p2, k3, or k1, k2, k3, k4, 0 of a fisheye.
        fisheye: whether it is a fisheye of OpenCV's model.
    """

    name: str
    path: Path | None
    size: tuple[float, float] | None
    matrix: Floats
    pose: Floats
    distortion: Floats
    fisheye: bool = False


def is_transforms(path: Path) -> bool:
    """Whether a file says that it has frames with matrices."""
    start = head(path, 1 << 16)
    return b'"frames"' in start and b'"transform_matrix"' in start


def is_llff(path: Path) -> bool:
    """Whether a file is a NumPy array of rows of 17 numbers."""
    start = head(path, 128)
    return start.startswith(b"\x93NUMPY") and b", 17)" in start


def transforms(path: Path, inside: Path, size_of: Any) -> list[Posed]:
    """The views of a ``transforms.json``.

    Args:
        path: of the file.
        inside: folder that pictures must be in.
        size_of: gives width and height of a picture, where the file does not.

    Raises:
        UnreadableFile: it is no such file, or names pictures that are not there.
    """
    document = _document(path)
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames:
        raise unreadable(path, "has no list of frames", _MEND)
    found = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise unreadable(path, f"frame {number} is no object", _MEND)
        name = frame.get("file_path", frame.get("file"))
        if not isinstance(name, str) or not name:
            raise unreadable(path, f"frame {number} names no file", _MEND)
        picture = _picture(path, inside, name)
        found.append(_posed(path, f"frame {number}", {**document, **frame}, name, picture, size_of))
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise unreadable(path, f"has more than {_MAX_BYTES} bytes", "Leave it out.")
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, f"cannot be read as JSON ({error})", _MEND) from error
    if not isinstance(document, dict):
        raise unreadable(path, "is no JSON object", _MEND)
    return document


def _picture(path: Path, inside: Path, name: str) -> Path:
    """The picture that a frame names, with or without its suffix, inside the source."""
    plain = name.replace("\\", "/")
    try:
        target = (path.parent / plain).resolve()
        if plain.startswith("/") or not target.is_relative_to(inside.resolve()):
            raise unreadable(
                path, f"names the picture {name!r}, outside of {inside}", "Write places relative to the file."
            )
        candidates = [target, *(target.with_name(target.name + end) for end in _IMAGES)]
        found = next((one for one in candidates if one.is_file()), None)
    except (OSError, ValueError) as error:  # of a name that no file can have
        raise unreadable(path, f"names the picture {name!r} ({error})", _MEND) from error
    if found is None:
        raise unreadable(path, f"names the picture {name!r}, which is not there", "Fetch it, or take its frame out.")
    return found


def _posed(path: Path, where: str, said: Mapping[str, Any], name: str, picture: Path, size_of: Any) -> Posed:
    model = str(said.get("camera_model", "")).upper()
    fisheye = model == "OPENCV_FISHEYE" or bool(said.get("is_fisheye"))
    if "FISHEYE" in model and not fisheye:
        raise unreadable(path, f"{where}: is of a camera of model {model:.40}", "Undistort the pictures first.")
    given = [_number(path, where, said, key) for key in ("w", "h")]
    size = (given[0], given[1]) if given[0] and given[1] else None
    width, height = size or size_of(picture)
    fx, fy = (_focal(path, where, said, key, length) for key, length in (("x", width), ("y", height)))
    fx, fy = fx or fy, fy or fx
    if not fx or not fy or min(fx, fy, width, height) <= 0:
        raise unreadable(path, f"{where}: no focal length (fl_x or camera_angle_x) above 0", _MEND)
    cx, cy = (_number(path, where, said, key) for key in ("cx", "cy"))
    matrix = np.array(
        [[fx, 0, width / 2 if cx is None else cx], [0, fy, height / 2 if cy is None else cy], [0, 0, 1]], np.float64
    )
    terms = [_number(path, where, said, key) or 0.0 for key in (_OF_FISHEYE if fisheye else _DISTORTION)]
    distortion = np.array([*terms, 0.0][: len(_DISTORTION)])
    pose = _matrix(path, where, said.get("transform_matrix"))
    pose[:, 1:3] *= -1  # x right, y up, z backward -> x right, y down, z forward
    return Posed(name, picture, size, matrix, pose, distortion, fisheye)


def _number(path: Path, where: str, said: Mapping[str, Any], key: str) -> float | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise unreadable(path, f"{where}: {key} is {value!s:.40}, no finite number", _MEND)
    return float(value)


def _focal(path: Path, where: str, said: Mapping[str, Any], axis: str, length: float) -> float | None:
    """Focal length in pixels, given as such or as the angle (rad) that a side of the picture spans."""
    focal = _number(path, where, said, f"fl_{axis}")
    if focal is not None:
        return focal
    angle = _number(path, where, said, f"camera_angle_{axis}")
    if angle is None:
        return None
    if not 0 < angle < math.pi:
        raise unreadable(path, f"{where}: camera_angle_{axis} is {angle:g}, not between 0 and pi", _MEND)
    return 0.5 * length / math.tan(0.5 * angle)


def _matrix(path: Path, where: str, given: Any) -> Floats:
    try:
        matrix = np.array(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise unreadable(path, f"{where}: transform_matrix is no 4 x 4 of finite numbers", _MEND)
    pose = np.eye(4)
    pose[: len(matrix)] = matrix
    return pose


def llff(path: Path) -> tuple[list[Posed], Floats]:
    """The views of ``poses_bounds.npy`` in its order, and the nearest and farthest depth [V, 2] of each.

    Raises:
        UnreadableFile: it is no such file.
    """
    try:
        rows = np.array(
            np.load(path, mmap_mode="r", allow_pickle=False), dtype=np.float64
        )  # mapped: no more than is there
    except (OSError, ValueError, EOFError, TypeError, OverflowError) as error:
        raise unreadable(path, f"is no NumPy array ({error})", _MEND) from error
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows) or not np.isfinite(rows).all():
        raise unreadable(path, f"has shape {rows.shape}, not that of finite numbers [views, 17]", _MEND)
    found = []
    for number, row in enumerate(rows):
        given = row[:15].reshape(3, 5)
        height, width, focal = given[:, 4]
        if min(height, width, focal) <= 0:
            raise unreadable(path, f"view {number} has height, width, focal length {given[:, 4].tolist()}", _MEND)
        pose = np.eye(4)
        # columns: down, right, backward, position -> right, down, forward, position
        pose[:3] = np.stack([given[:, 1], given[:, 0], -given[:, 2], given[:, 3]], axis=1)
        matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=np.float64)
        found.append(Posed("", None, (float(width), float(height)), matrix, pose, np.zeros(5)))
    return found, rows[:, 15:]
