"""Posed views of one scene, for 3-D work.

Intrinsics are [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, counted from the upper left corner of the picture. Poses are
matrices from the camera's space to the world's. The camera's axes are those of OpenCV and COLMAP: x to the right of the
picture, y down, z forward, so that a point with z above 0 is in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import PIXELS, mark_field
from sensorium.catalog.modality import Modality, Violation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modality"]

#: how far a rotation times its transpose may be from the identity, per element
_ROTATION = 1e-3

_FIELDS = (
    ArrayField(
        "images",
        "V H W C",
        dtypes=PIXELS,
        required=True,
        sizes={"C": (1, 3, 4)},
        codec="none",
        description="one picture per view: grey, RGB or RGBA",
    ),
    ArrayField(
        "intrinsics",
        "V K0 K1",
        dtypes=("float32", "float64"),
        unit="px",
        required=True,
        sizes={"K0": (3,), "K1": (3,)},
        codec="zstd",
        description="camera matrix per view",
    ),
    ArrayField(
        "poses",
        "V P0 P1",
        dtypes=("float32", "float64"),
        required=True,
        sizes={"P0": (4,), "P1": (4,)},
        codec="zstd",
        description="camera to world, per view: rotation, and position in the fourth column",
    ),
    mark_field("masks", "V H W", "object per pixel and view; 0 is none"),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """Cameras can exist: positive focal lengths, rigid poses."""
    intrinsics, poses = np.asarray(sample.get("intrinsics")), np.asarray(sample.get("poses"))
    if intrinsics.ndim == 3 and intrinsics.shape[1:] == (3, 3):
        focal = intrinsics[:, [0, 1], [0, 1]]  # [V, 2]: fx, fy
        for view in np.flatnonzero(~(focal > 0).all(axis=1))[:1]:
            yield Violation(
                "intrinsics",
                f"focal lengths must be above 0 px; view {view} has fx, fy = {focal[view].tolist()}",
                "Give [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels",
            )
    if poses.ndim == 3 and poses.shape[1:] == (4, 4):
        yield from _check_poses(poses.astype(np.float64))


def _check_poses(poses: Any) -> Iterator[Violation]:
    """``poses`` [V, 4, 4]: the first view at fault is named, for a wrong convention breaks them all alike."""
    for view in np.flatnonzero((np.abs(poses[:, 3] - [0, 0, 0, 1]) > 1e-6).any(axis=1))[:1]:
        yield Violation(
            "poses",
            f"the last row must be 0 0 0 1; view {view} has {poses[view, 3].tolist()}",
            "Give matrices that multiply column vectors, camera to world",
        )
    rotation = poses[:, :3, :3]
    skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    for view in np.flatnonzero(~(skew <= _ROTATION))[:1]:
        yield Violation(
            "poses",
            f"the rotation must be orthonormal within {_ROTATION}; view {view} is off by {skew[view]:.3g}",
            "Take the scale out of the upper left 3 x 3 part",
        )
        return
    for view in np.flatnonzero(np.linalg.det(rotation) < 0)[:1]:
        yield Violation(
            "poses", f"view {view} is mirrored (determinant -1)", "Use a right-handed camera space; flip one axis"
        )


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw the first view, with the outline of its mask."""
    masks = _drawing.lazily(sample, "masks")
    first = np.asarray(_drawing.lazily(sample, "images")[0])
    _drawing.picture(axes, first, None if masks is None else np.asarray(masks[0]))


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The views, at most 100."""
    images = _drawing.lazily(sample, "images")
    for view in _sheets.evenly(len(images), 100):
        shown = _drawing.to_rgb(_drawing.thin(np.asarray(images[view])))
        yield f"view {view} of {len(images)}", (shown * 255 + 0.5).astype(np.uint8)


modality = Modality(
    name="scene",
    title="posed views of a scene",
    fields=_FIELDS,
    check=check,
    preview=preview,
    sheet=_sheets.scene,
    steps=steps,
)
