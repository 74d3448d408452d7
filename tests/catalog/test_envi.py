"""ENVI cubes, as another library writes and reads them, in every interleave, type and byte order; lengths are checked."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, refusal, shared, write

CUBE = np.random.default_rng(0).integers(0, 4000, (4, 3, 5)).astype(np.uint16)
PLAIN = "ENVI\nlines = 4\nsamples = 3\nbands = 5\ndata type = 12\ninterleave = bip\nbyte order = 0\n"


def saved(path: Path, values: Any, **options: Any) -> Path:
    envi = pytest.importorskip("spectral.io.envi")
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        envi.save_image(str(path), values, dtype=values.dtype, force=True, **options)
    return path


def plain(path: Path, more: str = "", content: bytes | None = None, start: str = PLAIN) -> Path:
    write(path.with_suffix(".raw"), CUBE.tobytes() if content is None else content)
    return write(path, start + more)


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "float32", "float64", "uint16", "uint32", "int64", "uint64"]
)
def test_every_layout_and_type_comes_back_as_it_was(tmp_path: Path, interleave: str, order: int, dtype: str) -> None:
    values = (CUBE % 250).astype(dtype)
    saved(tmp_path / "é 1/a b.hdr", values, interleave=interleave, byteorder=order)
    cube = imported("envi", tmp_path)["é 1/a b"]["cube"]
    assert cube.dtype == np.dtype(dtype)
    assert cube.flags.c_contiguous
    assert np.array_equal(cube, values)


@pytest.mark.parametrize(("unit", "factor"), [("Nanometers", 1), ("Micrometers", 1000), ("", 1000), ("Unknown", 1000)])
def test_wavelengths_are_nanometres(tmp_path: Path, unit: str, factor: float) -> None:
    listed = [0.4, 0.5, 0.6, 0.7, 0.8] if factor == 1000 else [400, 500, 600, 700, 800]
    metadata = {"wavelength": listed, "fwhm": [value / 100 for value in listed], "wavelength units": unit}
    saved(tmp_path / "a.hdr", CUBE, metadata=metadata | {"data ignore value": 0, "reflectance scale factor": 10000})
    sample = imported("envi", tmp_path)["a"]
    assert sample["wavelength"] == pytest.approx([400, 500, 600, 700, 800])
    assert sample["fwhm"] == pytest.approx([4, 5, 6, 7, 8])
    assert (sample["ignore_value"], sample["reflectance_scale"]) == (0, 10000)


def test_bands_are_sorted_with_their_wavelengths(tmp_path: Path) -> None:
    plain(tmp_path / "a.hdr", "wavelength = {500, 400, 700,\n 600, 800}\nfwhm = {5, 4, 7, 6, 8}\n")
    sample = imported("envi", tmp_path)["a"]
    assert sample["wavelength"] == [400, 500, 600, 700, 800]
    assert sample["fwhm"] == [4, 5, 6, 7, 8]
    assert np.array_equal(sample["cube"], CUBE[..., [1, 0, 3, 2, 4]])


def test_what_is_no_wavelength_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain(tmp_path / "a.hdr", "wavelength = {1, 2, 3, 4, 5}\nwavelength units = Index\n")
    assert "wavelength" not in imported("envi", tmp_path)["a"]
    assert "'Index'" in caplog.text
    plain(tmp_path / "a.hdr", "wavelength = {10, 20, 30, 40, 50}\n")
    assert imported("envi", tmp_path, wavelength_unit="nm")["a"]["wavelength"] == [10, 20, 30, 40, 50]
    with pytest.raises(InvalidSetting, match="wavelength_unit"):
        imported("envi", tmp_path, wavelength_unit="inch")


@pytest.mark.parametrize(
    ("header", "data"),
    [("a.hdr", "a"), ("a.hdr", "a.img"), ("a.hdr", "a.DAT"), ("a.raw.hdr", "a.raw"), ("a.bil.hdr", "a.bil")],
)
def test_values_are_found_and_offsets_kept(tmp_path: Path, header: str, data: str) -> None:
    write(tmp_path / header, f"{PLAIN}; lines = 99\nheader offset = 6\n")
    write(tmp_path / data, b"before" + CUBE.tobytes())
    (sample,) = imported("envi", tmp_path).values()
    assert np.array_equal(sample["cube"], CUBE)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("lines = 5\n", "claims 150 bytes"),
        ("lines = 3\n", "claims 90 bytes"),
        ("lines = 10000000000\n", "more than the limit"),
        ("lines = -4\n", "lines, samples and bands"),
        ("lines = many\n", "cannot be decoded"),
        ("byte order = 7\n", "byte order 7"),
        ("header offset = -6\n", "offset -6"),
        ("data type = 6\n", "data type 6"),
        ("interleave = zip\n", "'zip'"),
        ("file type = ENVI Spectral Library\n", "not a cube"),
        ("file compression = 1\n", "compressed"),
        ("wavelength = {400, 500}\n", "5 bands and 2 values"),
        ("wavelength = {400, 500, x, 1, 2}\n", "no numbers"),
        ("wavelength = {400, 500, 0, 1, 2}\n", "band 2 is 0"),
        ("wavelength = {400, 500, 600, 500, 700}\n", "bands 1 and 3"),
        ("wavelength = {400, 500\n", "cut off"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, more: str, says: str) -> None:
    path = plain(tmp_path / "a.hdr", more)
    text = refusal("envi", path)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "is no ENVI"), ("just a text", "is no ENVI"), ("ENVI\n", "no 'lines'"), (PLAIN, "values are missing")],
)
def test_broken_headers_are_refused(tmp_path: Path, content: str, says: str) -> None:
    assert says in refusal("envi", write(tmp_path / "a.hdr", content))


def test_what_is_not_finite_needs_a_number(tmp_path: Path) -> None:
    values = CUBE.astype(np.float32)
    values[1, 2, 3] = np.nan
    plain(tmp_path / "a.hdr", "data type = 4\ndata ignore value = nan\n", values.tobytes())
    assert "nan at (1, 2, 3)" in refusal("envi", tmp_path)
    assert imported("envi", tmp_path, nan="0")["a"]["cube"][1, 2, 3] == 0


def test_cubes_go_into_a_catalog_once_and_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    saved(folder / "a.hdr", CUBE, metadata={"wavelength": [400, 500, 600, 700, 800], "wavelength units": "nm"})
    saved(folder / "b.hdr", CUBE[:2])
    plain(folder / "bad.hdr", "lines = 9\n")
    write(folder / "metadata.csv", "id,leaf\na,oak\n")
    assert choose_importer(Source(folder)).name == "envi"
    lake = Catalog(tmp_path / "lake")
    report = lake.ingest(folder, "cubes")
    assert (report.added, len(report.failed)) == (2, 1)
    again = lake.ingest(folder, "cubes")
    assert (again.added, again.skipped) == (0, 2)
    sample = lake["cubes"].select()["a"]
    assert sample["leaf"] == "oak"
    modalities.get("hyperspectral").preview(Figure().subplots(), {"cube": np.asarray(sample["cube"])})


def test_a_real_cube_is_that_of_another_library() -> None:
    folder = shared("hyperspectral/plantcv_corn_kernel")
    assert importer("envi").matches(Source(folder)) > 0.5
    (sample,) = imported("envi", folder).values()
    assert sample["cube"].shape == (31, 43, 580)
    assert sample["cube"].dtype == np.uint16
    assert (sample["cube"].min(), sample["cube"].max()) == (0, 2887)
    assert sample["wavelength"][0] == 366.551
    envi = pytest.importorskip("spectral.io.envi")
    (header,) = folder.glob("*.hdr")
    write_free = np.fromfile(header.with_suffix(".raw"), "<u2").reshape(31, 580, 43).transpose(0, 2, 1)
    assert np.array_equal(sample["cube"], write_free)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bands = envi.read_envi_header(str(header))["wavelength"]
    assert sample["wavelength"] == [float(value) for value in bands]
