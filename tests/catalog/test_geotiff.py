"""Scenes keep their values and their place on Earth, whole or in windows; headers that lie are refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.importers._tiff import Header, read_header
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, picture, refusal, write

pytest.importorskip("rasterio")

#: GeoTIFF tags written by hand: 10 m pixels from easting 500000, northing 4600000 in UTM zone 31 north
GEO = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0), True),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631), True),
]
PLACE = [10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0]


def values(bands: int, dtype: Any, height: int = 7, width: int = 5) -> np.ndarray:
    random = np.random.default_rng(bands)
    return (random.random((height, width, bands)) * 200 - 50 * (np.dtype(dtype).kind != "u")).astype(dtype)


def scene(path: Path, array: np.ndarray, geo: Any = GEO, **options: Any) -> Path:
    """Write ``array`` [H, W, L]; ``extrasamples`` and the like go to the writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"photometric": "minisblack", "planarconfig": "contig"} if array.shape[2] > 1 else {}
    tifffile.imwrite(path, array if array.shape[2] > 1 else array[..., 0], extratags=geo, **kinds, **options)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "byteorder": ">"}, {"bigtiff": True}])
def test_values_and_place_are_kept(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    array = values(6, dtype)
    scene(tmp_path / "Übung 1/a b.tif", array, **options)
    assert choose_importer(Source(tmp_path)).name == "geotiff"
    sample = imported("geotiff", tmp_path)["Übung 1/a b"]
    assert sample["cube"].dtype == np.dtype(dtype)
    assert np.array_equal(sample["cube"], array)
    assert sample["crs"] == "EPSG:32631"
    assert sample["transform"] == PLACE
    assert not {"nodata", "wavelength", "band_names", "window", "scales"} & set(sample)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_pictures_of_eight_bits_are_images(tmp_path: Path, bands: int) -> None:
    array = values(bands, np.uint8)
    path = scene(tmp_path / "a.tif", array)
    assert choose_importer(Source(tmp_path)).name == "geotiff_pictures"
    sample = imported("geotiff_pictures", tmp_path)["a"]
    assert np.array_equal(sample["image"], array)
    assert sample["transform"] == PLACE
    scene(path, values(2, np.uint8))
    assert choose_importer(Source(tmp_path)).name == "geotiff"
    assert "--format geotiff" in refusal("geotiff_pictures", tmp_path)


def test_files_without_a_place_are_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.tif")
    assert choose_importer(Source(tmp_path)).name == "image_folder"
    assert "crs" not in imported("geotiff_pictures", tmp_path)["a"]


@pytest.mark.parametrize(("size", "overlap"), [(4, 0), (4, 1), (3, 2), (100, 0)])
def test_windows_are_the_scene_in_parts(tmp_path: Path, size: int, overlap: int) -> None:
    array = values(6, np.uint16, 11, 9)
    scene(tmp_path / "a.tif", array, tile=(16, 16))
    samples = imported("geotiff", tmp_path, tile=f"{size},{overlap}" if overlap else f"{size}")
    seen = np.zeros(array.shape[:2], int)
    for name, sample in samples.items():
        top, left, height, width = sample["window"]
        assert name == f"a/{top // (size - overlap)}_{left // (size - overlap)}"
        assert np.array_equal(sample["cube"], array[top : top + height, left : left + width])
        assert sample["transform"] == [10.0, 0.0, 500000.0 + 10 * left, 0.0, -10.0, 4600000.0 - 10 * top]
        seen[top : top + height, left : left + width] += 1
        assert height == min(size, 11 - top)
    assert seen.min() == 1
    assert overlap or seen.max() == 1


@pytest.mark.parametrize("tile", ["0", "4,4", "x", "-1", "4,"])
def test_windows_at_fault_are_refused(tmp_path: Path, tile: str) -> None:
    scene(tmp_path / "a.tif", values(6, np.uint8))
    with pytest.raises(InvalidSetting, match="tile must be"):
        imported("geotiff", tmp_path, tile=tile)


def test_names_wavelengths_nodata_and_scales(tmp_path: Path) -> None:
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{band}" role="description">B{band} {500 + band}.5 nm</Item>'
        f'<Item name="SCALE" sample="{band}" role="scale">0.5</Item>'
        for band in range(5)
    )
    metadata = [(42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True), (42113, "s", 0, "-9999", True)]
    scene(tmp_path / "a.tif", values(5, np.int16), [*GEO, *metadata])
    sample = imported("geotiff", tmp_path)["a"]
    assert sample["wavelength"] == [500.5, 501.5, 502.5, 503.5, 504.5]
    assert sample["band_names"][1] == "B1 501.5 nm"
    assert sample["nodata"] == -9999
    assert sample["scales"] == [0.5] * 5
    assert imported("geotiff", tmp_path, wavelength="1,2,3,4,5.5")["a"]["wavelength"] == [1, 2, 3, 4, 5.5]
    assert "has 5 bands" in refusal("geotiff", tmp_path, wavelength="1,2")
    with pytest.raises(InvalidSetting, match="wavelength"):
        imported("geotiff", tmp_path, wavelength="a,b")


def test_values_that_are_not_finite_need_a_number_in_their_place(tmp_path: Path) -> None:
    array = values(5, np.float32)
    array[2, 3, 1] = np.nan
    scene(tmp_path / "a.tif", array, [*GEO, (42113, "s", 0, "nan", True)])
    assert "1 values are not finite" in refusal("geotiff", tmp_path)
    sample = imported("geotiff", tmp_path, nan="-1")["a"]
    assert sample["cube"][2, 3, 1] == sample["nodata"] == -1
    with pytest.raises(InvalidSetting, match="nan"):
        imported("geotiff", tmp_path, nan="inf")


def test_a_second_import_adds_nothing_and_the_previews_draw(tmp_path: Path, catalog: Catalog) -> None:
    cubes = scene(tmp_path / "cubes/a.tif", values(6, np.uint16, 20, 30))
    images = scene(tmp_path / "images/a.tif", values(3, np.uint8, 20, 30))
    for path, name in ((cubes, "hyperspectral"), (images, "image")):
        assert catalog.ingest(path.parent, name, options={"tile": "16"}).added == 4
        report = catalog.ingest(path.parent, name, options={"tile": "16"})
        assert (report.added, report.skipped, report.failed) == (0, 4, [])
        assert catalog[name].verify().is_empty()
        sample = catalog[name].select()["a/1_1"]
        assert sample["window"] == [16, 16, 4, 14]
        drawing = modalities.get(name).preview
        assert drawing is not None
        drawing(Figure().subplots(), sample)


@pytest.mark.parametrize(("bands", "name"), [(6, "geotiff"), (3, "geotiff_pictures")])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_masks_beside_scenes(tmp_path: Path, catalog: Catalog, bands: int, name: str, dtype: Any) -> None:
    folder = tmp_path / "in"
    marks = np.arange(35).reshape(7, 5, 1).astype(dtype)
    for one in ("ä b", "c"):
        scene(folder / f"images/{one}.tif", values(bands, np.uint8))
        scene(folder / f"masks/{one}.tif", marks)
        scene(folder / f"labels/{one}.tif", marks + 1)
    assert choose_importer(Source(folder)).name == name
    samples = imported(name, folder)
    assert list(samples) == ["images/c", "images/ä b"]
    for sample in samples.values():
        assert sample["mask"].dtype == np.dtype(dtype)
        assert np.array_equal(sample["mask"], marks[..., 0])
        assert np.array_equal(sample["labels"], marks[..., 0] + 1)
    part = imported(name, folder, tile="4")["images/c/1_1"]
    assert np.array_equal(part["mask"], marks[4:, 4:, 0])
    assert catalog.ingest(folder, "scenes").added == 2
    assert catalog.ingest(folder, "scenes").added == 0
    assert np.array_equal(catalog["scenes"].select()["images/c"]["labels"], marks[..., 0] + 1)
    assert catalog["scenes"].preview().content.startswith(b"\x89PNG")
    assert len(imported(name, folder / "images")) == 2
    (folder / "labels/c.tif").unlink()
    scene(folder / "masks/c.tif", values(1, np.uint8, 9, 5))
    assert "c.tif: has 1 bands of 5 x 9 uint8, its scene is 5 x 7" in refusal(name, folder)


def claim(path: Path, width: int, height: int) -> Path:
    """Rewrite the size in the header of a classic TIFF file."""
    content = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", content, 4)
    for index in range(struct.unpack_from("<H", content, place)[0]):
        entry = place + 2 + 12 * index
        tag = struct.unpack_from("<H", content, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", content, entry + 2, 4, 1, width if tag == 256 else height)
    return write(path, bytes(content))


def test_headers_that_lie_are_refused(tmp_path: Path) -> None:
    path = claim(scene(tmp_path / "a.tif", values(6, np.uint16)), 1_000_000, 900_000)
    assert read_header(path) == Header(1_000_000, 900_000, 6, 16, 1, True)
    assert "claims 6 bands of 1000000 x 900000 pixels" in refusal("geotiff", path)
    assert "claims 6 bands" in refusal("geotiff", path, tile="2")  # never billions of samples
    scene(path, values(6, np.uint16))
    assert "max_values=210" in refusal("geotiff", path, max_values="209")


def test_files_at_fault_are_refused(tmp_path: Path) -> None:
    whole = scene(tmp_path / "a.tif", values(6, np.uint16, 200, 200), compression="zlib").read_bytes()
    for content in (b"", b"text", b"II*\0", b"II*\0\xff\xff\xff\xff", whole[:9], whole[: len(whole) // 2]):
        path = write(tmp_path / "a.tif", content)
        text = refusal("geotiff", tmp_path)
        assert text.startswith(f"{path}: ")
        assert text.endswith(".")
    for place in range(0, 400, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        read_header(write(tmp_path / "a.tif", bytes(damaged)))  # whatever it says, it does not fail


def test_claims_are_by_content(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif", values(6, np.uint8))
    for name in ("geotiff", "geotiff_pictures"):
        assert importer(name).matches(Source(tmp_path / "a.tif")) == pytest.approx(0.95 * (name == "geotiff"))
        assert importer(name).matches(Source(write(tmp_path / "b.tif", b"II*\0text"))) == 0
