"""Volumes are turned to one orientation with their masks; headers that lie are refused before they cost anything."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, refusal, shared, volume, write

VOLUMES = Path(nibabel.__file__).parent / "tests/data"


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSR", "ASL", "IRP"])
def test_volumes_are_turned_to_ras(tmp_path: Path, codes: str) -> None:
    """The same body, scanned in another orientation, gives the same array, spacing and place."""
    body = np.random.default_rng(0).integers(-1000, 1000, (4, 3, 5)).astype(np.int16)  # x, y, z in RAS
    affine = np.array([[2.0, 0, 0, -7], [0, 3, 0, 11], [0, 0, 5, 1], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(body, affine)
    target = nibabel.orientations.axcodes2ornt(tuple(codes))
    start = nibabel.orientations.io_orientation(affine)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(start, target)), tmp_path / "a.nii.gz")
    sample = imported("nifti", tmp_path, unit="HU")["a"]
    assert sample["volume"].dtype == np.int16
    assert np.array_equal(sample["volume"], body.transpose(2, 1, 0))
    assert sample["spacing"] == pytest.approx([5, 3, 2])
    assert sample["affine"] == pytest.approx(affine.ravel())
    assert (sample["orientation"], sample["unit"]) == ("RAS", "HU")


def test_scaling_types_and_units_of_length(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    scaled = nibabel.Nifti1Image(values, np.diag([1e-3, 1e-3, 2e-3, 1]))
    scaled.header.set_slope_inter(2, -1024)
    scaled.header.set_xyzt_units("meter")
    nibabel.save(scaled, tmp_path / "scaled.nii")
    volume(tmp_path / "double.nii", values.astype(np.float64) / 3)
    volume(tmp_path / "big.nii", values.astype(">u2"))
    volume(tmp_path / "long.nii", values.reshape(2, 3, 4, 1, 1))
    samples = imported("nifti", tmp_path)
    assert samples["scaled"]["volume"].dtype == np.float32
    assert samples["double"]["volume"].dtype == np.float32
    assert samples["big"]["volume"].dtype == np.dtype("=u2")
    assert samples["long"]["volume"].shape == (4, 3, 2)
    expected = nibabel.load(tmp_path / "scaled.nii").get_fdata()
    assert np.allclose(samples["scaled"]["volume"], expected.transpose(2, 1, 0))
    assert samples["scaled"]["spacing"] == pytest.approx([2, 1, 1])


@pytest.mark.parametrize("place", ["a_mask.nii.gz", "a-seg.nii", "a_label.nii.gz", "masks/a.nii.gz", "labels/a.nii"])
def test_masks_of_volumes_are_found(tmp_path: Path, place: str) -> None:
    volume(tmp_path / "a.nii.gz")
    marks = (np.arange(24).reshape(2, 3, 4) % 4).astype(np.uint8)
    volume(tmp_path / place, marks)
    samples = imported("nifti", tmp_path)
    assert list(samples) == ["a"]
    assert np.array_equal(samples["a"]["mask"], marks.transpose(2, 1, 0))
    assert samples["a"]["mask"].dtype == np.uint8


def test_masks_with_fractions_are_cut_at_half_of_their_maximum(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii")
    marks = np.zeros((2, 3, 4), np.float32)
    marks[0, 0] = [10.5, 99.9, 100, 200]
    volume(tmp_path / "a_mask.nii", marks)
    mask = imported("nifti", tmp_path)["a"]["mask"]
    assert mask.dtype == np.uint8
    assert mask[:, 0, 0].tolist() == [0, 0, 1, 1]
    assert mask.sum() == 2
    volume(tmp_path / "a_mask.nii", np.float32(7) * (marks > 50))  # whole numbers in floats
    assert set(np.unique(imported("nifti", tmp_path)["a"]["mask"])) == {0, 7}


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii")
    volume(tmp_path / "a_mask.nii", affine=np.diag([-1, 1, 1, 1]))
    assert "not on the grid" in refusal("nifti", tmp_path)
    volume(tmp_path / "a_mask.nii", np.zeros((2, 3, 5), np.uint8))
    assert "not on the grid" in refusal("nifti", tmp_path)


def _claim(shape: tuple[int, ...], affine: Any = None) -> bytes:
    """A NIfTI header of a volume of ``shape``, without voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4) if affine is None else affine, code=1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + b"\0" * 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("claim.nii", lambda _: _claim((1000, 1000, 2000)), "claims 16000000000 bytes"),
        ("claim.nii.gz", lambda _: gzip.compress(_claim((1000, 1000, 2000))), "claims 16000000000 bytes"),
        ("huge.nii.gz", lambda _: gzip.compress(_claim((1100, 1000, 1000)) + bytes(10**7)), "claims 8800000000 bytes"),
        ("cut.nii", lambda whole: whole[:-40], "the file has"),
        ("cut.nii.gz", lambda whole: whole[: len(whole) // 2], "cannot be decoded as NIfTI"),
        ("short.nii.gz", lambda _: gzip.compress(_claim((10, 10, 10))), "cannot be decoded as NIfTI"),
        ("text.nii", lambda _: b"no volume at all" * 100, "is no NIfTI or MGH file"),
        ("text.nii.gz", lambda _: b"no volume at all" * 100, "is no NIfTI or MGH file"),
        ("none.nii", lambda _: b"", "is no NIfTI or MGH file"),
        ("flat.nii", lambda _: _claim((9, 9)) + bytes(648), "not that of one volume"),
        ("film.nii", lambda _: _claim((2, 2, 2, 3)) + bytes(192), "not that of one volume"),
        ("squash.nii", lambda _: _claim((2, 2, 2), np.diag([1, 0, 1, 1])) + bytes(64), "gives no voxel size"),
    ],
)
def test_broken_volumes_are_refused(tmp_path: Path, name: str, content: Callable[[bytes], bytes], says: str) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
    path = tmp_path / name
    whole = volume(path, noise).read_bytes()
    text = refusal("nifti", write(path, content(whole)))
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_voxels_that_are_not_finite_need_a_number_in_their_place(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.float32)
    values[1, 2, 3] = np.nan
    path = volume(tmp_path / "a.nii", values)
    assert "1 values are not finite, the first is nan at (1, 2, 3)" in refusal("nifti", path)
    assert imported("nifti", path, nan="-3500")["a"]["volume"][3, 2, 1] == -3500
    with pytest.raises(InvalidSetting, match="nan"):
        imported("nifti", path, nan="nan")


def test_the_limit_of_voxels_is_an_option(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii")
    assert "max_voxels=24" in refusal("nifti", path, max_voxels="23")
    assert imported("nifti", path, max_voxels="24")["a"]["volume"].size == 24


def test_volumes_that_ship_with_a_library_are_read() -> None:
    samples = imported("nifti", VOLUMES / "anatomical.nii")
    assert samples["anatomical"]["volume"].shape == (25, 41, 33)
    assert samples["anatomical"]["volume"].dtype == np.int16
    for name in ("example4d.nii.gz", "functional.nii", "row_major.dconn.nii"):
        assert "not that of one volume" in refusal("nifti", VOLUMES / name)


def test_real_lungs_and_their_masks() -> None:
    samples = imported("nifti", shared("unclear/ct/lung_masks"), unit="HU")
    assert len(samples) == 3
    for sample in samples.values():
        lung, volume_ = sample["mask"] != 0, sample["volume"]
        assert volume_.shape == (64, 128, 128)
        assert 0.03 < lung.mean() < 0.4
        assert volume_[lung].mean() < -600 < volume_[~lung & (volume_ > -3000)].mean()  # lungs are full of air
