"""Pairs of pictures are found in the layouts that data sets of change detection have; halves and sizes at fault are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, picture, refusal, shared, write

MAP = np.array([[0, 255, 0], [255, 0, 0]], np.uint8)


def pair(
    folder: Path, name: str = "1.png", roles: tuple[str, ...] = ("A", "B", "label"), change: np.ndarray = MAP
) -> Path:
    height, width = change.shape
    for index, role in enumerate(roles[:2]):
        picture(folder / role / name, np.full((height, width, 3), 10 * index + 5, np.uint8))
    for role in roles[2:]:
        picture((folder / role / name).with_suffix(".png"), change)
    return folder


def city(images: Path, maps: Path | None, *, rect: bool = True, bands: tuple[str, ...] = ("B01", "B8A", "B08")) -> Path:
    for time in (1, 2):
        for index, band in enumerate(bands):
            folder = images / (f"imgs_{time}_rect" if rect else f"imgs_{time}")
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{band}.tif" if rect else f"S2A_OPER_T31_{band}.tif"
            tifffile.imwrite(folder / name, np.full((2, 3), 1000 * time + index, np.uint16))
    if maps is not None:
        picture(maps / "cm/cm.png", MAP)
    return images


@pytest.mark.parametrize(
    "roles",
    [("A", "B", "label"), ("a", "b", "OUT"), ("Image1", "Image2", "label", "label1", "label2"), ("t1", "t2", "mask")],
)
def test_pairs_of_folders(tmp_path: Path, roles: tuple[str, ...]) -> None:
    pair(tmp_path / "train", "ä 1.png", roles)
    pair(tmp_path / "val", "2.png", roles, np.ones((4, 5), np.uint8) * 255)
    assert choose_importer(Source(tmp_path)).name == "change_folders"
    samples = imported("change_folders", tmp_path)
    assert {name: sample["split"] for name, sample in samples.items()} == {"train/ä 1": "train", "val/2": "val"}
    sample = samples["train/ä 1"]
    assert np.array_equal(sample["before"], np.full((2, 3, 3), 5, np.uint8))
    assert np.array_equal(sample["after"], np.full((2, 3, 3), 15, np.uint8))
    assert sample["change"].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert sample["change"].dtype == np.uint8
    assert samples["val/2"]["change"].shape == (4, 5)


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 1], [0, 1]), ([0, 255], [0, 1]), ([1, 2], [0, 1]), ([255, 255], [1, 1])]
)
def test_maps_of_two_values(tmp_path: Path, values: list[int], expected: list[int]) -> None:
    pair(tmp_path, change=np.array([values], np.uint8))
    assert imported("change_folders", tmp_path)["1"]["change"].tolist() == [expected]


def test_other_maps_need_to_be_told_of(tmp_path: Path) -> None:
    pair(tmp_path, change=np.array([[3, 4, 9]], np.uint8))
    assert "has the values [3, 4, 9]" in refusal("change_folders", tmp_path)
    assert imported("change_folders", tmp_path, unchanged="4")["1"]["change"].tolist() == [[1, 0, 1]]
    with pytest.raises(InvalidSetting, match="unchanged"):
        imported("change_folders", tmp_path, unchanged="x")


def test_classes_called_by_letters_are_not_pairs(tmp_path: Path) -> None:
    for letter in "ABC":
        picture(tmp_path / letter / "1.png")
    assert choose_importer(Source(tmp_path)).name == "image_folder"
    assert importer("change_folders").matches(Source(tmp_path)) == 0


def test_cities_of_bands(tmp_path: Path) -> None:
    city(tmp_path / "Images/paris", tmp_path / "Train Labels/paris")
    city(tmp_path / "Images/paris", None, rect=False)  # bands of their own grids, too
    city(tmp_path / "Images/new york", tmp_path / "Test Labels/new york")
    tifffile.imwrite(tmp_path / "Train Labels/paris/cm/paris-cm.tif", MAP // 255 + 1)
    assert choose_importer(Source(tmp_path)).name == "change_folders"
    samples = imported("change_folders", tmp_path)
    assert {name: sample["split"] for name, sample in samples.items()} == {
        "Images/paris": "train",
        "Images/new york": "test",
    }
    sample = samples["Images/paris"]
    assert sample["bands"] == ["B01", "B08", "B8A"]
    assert sample["before"].dtype == np.uint16
    assert sample["before"][0, 0].tolist() == [1000, 1002, 1001]
    assert sample["after"][1, 2].tolist() == [2000, 2002, 2001]
    assert np.array_equal(sample["change"], MAP // 255)
    (tmp_path / "Train Labels/paris/cm/cm.png").unlink()
    assert np.array_equal(imported("change_folders", tmp_path)["Images/paris"]["change"], MAP // 255)


def test_bands_at_fault_are_named(tmp_path: Path) -> None:
    folder = city(tmp_path / "paris", tmp_path / "paris", rect=False)
    assert "paris" in imported("change_folders", tmp_path)
    tifffile.imwrite(folder / "imgs_2/S2A_OPER_T31_B8A.tif", np.zeros((1, 2), np.uint16))
    assert "to one grid" in refusal("change_folders", tmp_path)
    (folder / "imgs_2/S2A_OPER_T31_B8A.tif").unlink()
    assert "bands are B01, B08, B8A before and B01, B08 after" in refusal("change_folders", tmp_path)


def test_halves_and_sizes_at_fault_are_named(tmp_path: Path) -> None:
    pair(tmp_path)
    picture(tmp_path / "B/1.png", np.zeros((2, 4, 3), np.uint8))
    assert "has 3 x 2 pixels, after of the pair (1.png) has 4 x 2" in refusal("change_folders", tmp_path)
    (tmp_path / "B/1.png").unlink()
    assert "there is no later picture of '1'" in refusal("change_folders", tmp_path)
    (tmp_path / "A/1.png").unlink()
    assert "there is no earlier picture of '1'" in refusal("change_folders", tmp_path)
    pair(tmp_path)
    picture(tmp_path / "A/1.tif")
    assert "both the picture 'before'" in refusal("change_folders", tmp_path)


def test_files_at_fault_are_refused(tmp_path: Path) -> None:
    pair(tmp_path, change=np.zeros((30, 30), np.uint8))
    whole = (tmp_path / "A/1.png").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path = write(tmp_path / "A/1.png", content)
        text = refusal("change_folders", tmp_path)
        assert text.startswith(f"{path}: ")
        assert "cannot be decoded" in text
    write(tmp_path / "A/1.png", whole)
    assert "max_pixels=900" in refusal("change_folders", tmp_path, max_pixels="899")


@pytest.mark.parametrize("last", [False, True])
def test_archives(tmp_path: Path, last: bool) -> None:
    scene = np.arange(4 * 2 * 3, dtype=np.uint16).reshape(4, 2, 3)
    stored = scene.transpose(1, 2, 0) if last else scene
    bands = np.array(["B01", "B02", "B03", "B8A"])
    path = tmp_path / "town.npz"
    np.savez_compressed(path, t1=stored, t2=stored + 1, change=MAP // 255, bands=bands)
    assert choose_importer(Source(tmp_path)).name == "change_folders"
    sample = imported("change_folders", tmp_path)["town"]
    assert np.array_equal(sample["before"], scene.transpose(1, 2, 0))
    assert np.array_equal(sample["after"], sample["before"] + 1)
    assert np.array_equal(sample["change"], MAP // 255)
    assert sample["bands"] == bands.tolist()
    np.savez(path, x=stored, y=stored, z=MAP)
    assert "arrays=BEFORE" in refusal("change_folders", tmp_path)
    assert imported("change_folders", tmp_path, arrays="x,y,z")["town"]["change"].max() == 1
    assert "no array 'w'" in refusal("change_folders", tmp_path, arrays="x,y,w")
    np.savez(path, t1=stored, t2=stored, change=MAP.ravel())
    assert "not [C, H, W]" in refusal("change_folders", tmp_path)
    np.savez(path, t1=np.array([{}], dtype=object), t2=stored, change=MAP)
    assert "never unpickled" in refusal("change_folders", tmp_path)
    write(path, path.read_bytes()[:200])
    assert str(path) in refusal("change_folders", tmp_path)


def test_a_second_import_adds_nothing_and_the_preview_draws(tmp_path: Path, catalog: Catalog) -> None:
    folder = pair(pair(tmp_path / "in"), "2.png", change=np.zeros((5, 7), np.uint8))
    city(folder / "paris", folder / "paris")
    assert catalog.ingest(folder, "changes").added == 3
    report = catalog.ingest(folder, "changes")
    assert (report.added, report.skipped, report.failed) == (0, 3, [])
    assert catalog["changes"].verify().is_empty()
    assert catalog["changes"].select()["paris"]["bands"] == ["B01", "B08", "B8A"]
    drawing = modalities.get("image_pair").preview
    assert drawing is not None
    for name in ("1", "paris"):
        drawing(Figure().subplots(), catalog["changes"].select()[name])


@pytest.mark.parametrize(("place", "count"), [("levir_cd_samples", 9), ("dsifn_samples", 8)])
def test_real_pairs(place: str, count: int) -> None:
    folder = shared(f"unclear/change/{place}")
    assert choose_importer(Source(folder)).name == "change_folders"
    samples = imported("change_folders", folder)
    assert len(samples) == count
    for name, sample in samples.items():
        assert np.array_equal(sample["after"], np.asarray(Image.open(folder / f"B/{name}.png")))
        assert sample["before"].shape == (256, 256, 3)
        assert set(np.unique(sample["change"])) <= {0, 1}


def test_real_archives() -> None:
    folder = shared("change/oscd_sentinel2")
    assert choose_importer(Source(folder)).name == "change_folders"
    samples = imported("change_folders", folder)
    assert samples["dubai"]["before"].shape == (619, 634, 13)
    assert samples["dubai"]["before"].dtype == np.uint16
    assert samples["dubai"]["bands"][8] == "B8A"
    assert samples["dubai"]["change"].mean() == pytest.approx(0.114, abs=5e-4)
    assert samples["bercy"]["change"].mean() == pytest.approx(0.008, abs=5e-4)
