"""Panoramas are known by their shape; what the camera's metadata say of pose and cropping is minded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, picture, refusal, shared, write


def panorama(path: Path, height: int = 128, width: int | None = None, **said: object) -> Path:
    """Write noise as a panorama, with properties of the schema GPano."""
    random = np.random.default_rng(height)
    pixels = random.integers(0, 256, (height, width or 2 * height, 3), np.uint8)
    if not said:
        return picture(path, pixels)
    properties = " ".join(f'GPano:{name}="{value}"' for name, value in said.items())
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {properties}/></x:xmpmeta>'
    return picture(path, pixels, xmp=xmp.encode())


def test_pictures_twice_as_wide_as_high_are_panoramas(tmp_path: Path) -> None:
    panorama(tmp_path / "train/ä b.png")
    panorama(tmp_path / "train/c.png", 200)
    assert choose_importer(Source(tmp_path)).name == "panoramas"
    samples = imported("panoramas", tmp_path)
    assert {name: sample["image"].shape for name, sample in samples.items()} == {
        "train/ä b": (128, 256, 3),
        "train/c": (200, 400, 3),
    }
    assert np.array_equal(samples["train/c"]["image"], np.asarray(Image.open(tmp_path / "train/c.png")))
    assert samples["train/c"]["split"] == "train"
    assert not {"heading", "pitch", "roll"} & set(samples["train/c"])


@pytest.mark.parametrize(("height", "width"), [(128, 255), (128, 128), (20, 40)])
def test_one_other_picture_makes_it_a_folder_of_pictures(tmp_path: Path, height: int, width: int) -> None:
    for name in ("a", "b", "c"):
        panorama(tmp_path / f"{name}.png")
    panorama(tmp_path / "d.png", height, width)
    assert choose_importer(Source(tmp_path)).name == "image_folder"
    assert importer("panoramas").matches(Source(tmp_path / "d.png")) == 0


def test_the_pose_of_the_camera_is_kept(tmp_path: Path) -> None:
    pose = {"PoseHeadingDegrees": "350.5", "PosePitchDegrees": "-2", "PoseRollDegrees": "x"}
    panorama(tmp_path / "a.jpg", **pose)
    sample = imported("panoramas", tmp_path)["a"]
    assert (sample["heading"], sample["pitch"]) == (350.5, -2.0)
    assert "roll" not in sample
    write(tmp_path / "metadata.csv", "file,heading\na.jpg,7\n")
    assert imported("panoramas", tmp_path)["a"]["heading"] == 7


def test_masks_come_along(tmp_path: Path) -> None:
    panorama(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", np.eye(128, 256, dtype=np.uint8))
    assert imported("panoramas", tmp_path)["images/a"]["mask"].sum() == 128


def test_parts_and_other_projections_are_refused(tmp_path: Path) -> None:
    path = panorama(tmp_path / "a.jpg", CroppedAreaImageHeightPixels=128, FullPanoHeightPixels=256)
    assert "shows 128 of 256 pixels of the full panorama's height" in refusal("panoramas", path)
    panorama(path, ProjectionType="cylindrical")
    assert "projection 'cylindrical'" in refusal("panoramas", path)
    panorama(path, 100, 201)
    assert "has 201 x 100 pixels" in refusal("panoramas", path)


def test_files_at_fault_are_refused(tmp_path: Path) -> None:
    whole = panorama(tmp_path / "a.png").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        assert "cannot be decoded" in refusal("panoramas", write(tmp_path / "a.png", content))
    write(tmp_path / "a.png", whole)
    assert "max_pixels=32768" in refusal("panoramas", tmp_path, max_pixels="32767")


def test_a_second_import_adds_nothing_and_the_preview_draws(tmp_path: Path, catalog: Catalog) -> None:
    panorama(tmp_path / "in/a.jpg", PoseHeadingDegrees=90)
    panorama(tmp_path / "in/b.jpg")
    assert catalog.ingest(tmp_path / "in", "around").added == 2
    report = catalog.ingest(tmp_path / "in", "around")
    assert (report.format, report.added, report.skipped, report.failed) == ("panoramas", 0, 2, [])
    assert catalog["around"].verify().is_empty()
    sample = catalog["around"].select()["a"]
    assert sample["heading"] == 90.0
    drawing = modalities.get("panorama").preview
    assert drawing is not None
    drawing(Figure().subplots(), sample)


@pytest.mark.parametrize("place", ["horizonnet_demo", "sphsps_sun360"])
def test_real_panoramas(place: str) -> None:
    folder = shared(f"unclear/panorama/{place}")
    assert choose_importer(Source(folder)).name == "panoramas"
    samples = imported("panoramas", folder)
    assert len(samples) == 2
    assert {sample["image"].shape[:2] for sample in samples.values()} == {(512, 1024)}
