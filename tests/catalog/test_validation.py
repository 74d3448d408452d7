"""Every bad sample is told as data set, sample, field, value and remedy, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.platform.errors import InvalidSample

RGB = np.zeros((4, 5, 3), np.uint8)
NAN_CUBE = np.ones((4, 4, 3), np.float32)
NAN_CUBE[1, 2, 0] = np.nan
INF_AUDIO = np.array([0.0, np.inf, 0.0], np.float32)
POSE = np.eye(4)[None]
BAD_POSE = POSE * 2
INTRINSICS = np.eye(3)[None] * 100

BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no image": ("image", {"label": "x"}, r"'image': is missing"),
    "image of two axes": ("image", {"image": RGB[..., 0]}, r"'image': has shape \[4, 5\].*\[H, W, C\]"),
    "image of five channels": ("image", {"image": np.zeros((4, 5, 5), np.uint8)}, r"5 along C.*1 or 3 or 4"),
    "image of text": ("image", {"image": np.array([["a"]])}, r"'image'.*dtype"),
    "empty image": ("image", {"image": RGB[:0]}, r"'image': is empty, of shape \[0, 5, 3\]"),
    "mask of another size": (
        "image",
        {"image": RGB, "mask": np.zeros((4, 4), np.uint8)},
        r"'mask': has 4 along W, but image has 5",
    ),
    "pair of two sizes": (
        "image_pair",
        {"before": RGB, "after": RGB[:3], "change": RGB[..., 0]},
        r"'after': has 3 along H, but before has 4",
    ),
    "panorama that is no panorama": ("panorama", {"image": RGB}, r"'image'.*2"),
    "cube with NaN": (
        "hyperspectral",
        {"cube": NAN_CUBE, "wavelength": [1.0, 2.0, 3.0]},
        r"1 of 48 values NaN.*\[1, 2, 0\]",
    ),
    "cube with too few wavelengths": (
        "hyperspectral",
        {"cube": NAN_CUBE * 0 + 1, "wavelength": [1.0, 2.0]},
        r"'cube'|'wavelength'",
    ),
    "wavelengths out of order": (
        "hyperspectral",
        {"cube": np.ones((2, 2, 3), np.float32), "wavelength": [500.0, 400.0, 600.0]},
        r"'wavelength'",
    ),
    "negative spacing": (
        "volume",
        {"volume": np.zeros((3, 3, 3), np.int16), "spacing": [1.0, -1.0, 1.0]},
        r"'spacing'.*-1",
    ),
    "sound without a rate": ("audio", {"audio": np.zeros(8, np.float32)}, r"'sampling_rate': is missing"),
    "sound of zero samples": (
        "audio",
        {"audio": np.zeros(0, np.float32), "sampling_rate": 8000.0},
        r"'audio': is empty",
    ),
    "sound with infinities": ("audio", {"audio": INF_AUDIO, "sampling_rate": 8000.0}, r"1 of 3 values NaN or infinite"),
    "sound with rate zero": ("audio", {"audio": np.zeros(8, np.float32), "sampling_rate": 0.0}, r"'sampling_rate'.*0"),
    "series that goes back in time": (
        "series",
        {"times": np.array([0.0, 2.0, 1.0]), "variables": np.zeros(3, np.int32), "values": np.ones(3)},
        r"'times'",
    ),
    "series of three lengths": (
        "series",
        {"times": np.array([0.0, 1.0]), "variables": np.zeros(2, np.int32), "values": np.ones(3)},
        r"along N",
    ),
    "series with unknown variables": (
        "series",
        {"times": np.array([0.0, 1.0]), "variables": np.array([0, 7], np.int32), "values": np.ones(2)},
        r"'variables'.*7",
    ),
    "video without frames": ("video", {"frame_rate": 25.0}, r"'frames'|'encoded'"),
    "scene with a bad pose": (
        "scene",
        {"images": RGB[None], "intrinsics": INTRINSICS, "poses": BAD_POSE},
        r"'poses'",
    ),
    "scene with too few poses": (
        "scene",
        {"images": np.stack([RGB, RGB]), "intrinsics": np.repeat(INTRINSICS, 2, 0), "poses": POSE},
        r"along V",
    ),
    "an id that is a number": ("image", {"id": 7, "image": RGB}, r"'id'.*7"),
    "an id of no letters": ("image", {"id": "", "image": RGB}, r"'id'"),
    "a field with a bad name": ("image", {"image": RGB, "a b": 1}, r"'a b'.*letters"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_samples_are_told_clearly_and_leave_nothing(catalog: Catalog, case: str) -> None:
    modality, sample, message = BAD[case]
    attributes = {"variable_names": ["HR", "MAP"]} if modality == "series" else None
    dataset = catalog.create("things", modality=modality, attributes=attributes)
    with pytest.raises((InvalidSample, ValueError), match=message) as caught:
        dataset.append([{"id": "s1", **sample}])
    text = str(caught.value)
    assert "\n" not in text
    assert text.count(". ") >= 1 or text.endswith("."), "there is no remedy"
    if "id" not in sample and "a b" not in sample:
        assert "'things'" in text
        assert "'s1'" in text
    assert len(dataset) == 0
    assert dataset.storage.folders("fragments") == []


def test_integer_images_need_no_finite_check_and_big_endian_arrays_are_turned(catalog: Catalog) -> None:
    dataset = catalog.create("things", modality="image")
    image = np.arange(60, dtype=">u2").reshape(4, 5, 3)
    dataset.append([{"id": "a", "image": image}])
    found = dataset.select()["a"]["image"]
    assert found.dtype == np.dtype("uint16")
    np.testing.assert_array_equal(found, image)


def test_arrays_that_are_not_contiguous_are_stored_in_c_order(catalog: Catalog) -> None:
    dataset = catalog.create("things", modality="image")
    image = np.arange(60, dtype=np.uint8).reshape(3, 5, 4).transpose(2, 1, 0)
    dataset.append([{"id": "a", "image": image}])
    np.testing.assert_array_equal(dataset.select()["a"]["image"], image)
