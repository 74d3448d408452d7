"""Cubes in MATLAB files of both kinds, with labels and wavelengths; what else is in such files is never looked into."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, refusal, shared, write

CUBE = np.random.default_rng(0).integers(0, 4000, (4, 3, 5)).astype(np.uint16)
BANDS = [400.0, 500, 600, 700, 800]


def five(path: Path, *, compressed: bool = True, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays, do_compression=compressed)
    return path


def seven(path: Path, **arrays: Any) -> Path:
    """As MATLAB 7.3 writes: HDF5 behind a block of text, axes reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            data = file.create_dataset(name, data=np.asarray(values).T, compression="gzip")
            data.attrs["MATLAB_class"] = np.bytes_("uint16")
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as stream:
        stream.write(text)
    return path


@pytest.mark.parametrize("writer", [five, seven])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_cubes_come_back_as_they_were(tmp_path: Path, writer: Callable[..., Path], dtype: str) -> None:
    values = (CUBE % 120).astype(dtype) / (3 if dtype.startswith("f") else 1)
    writer(tmp_path / "é 1/a b.mat", data=values.astype(dtype), wavelength=[BANDS], other=np.zeros((2, 2)))
    sample = imported("matlab_cubes", tmp_path)["é 1/a b"]
    assert sample["cube"].dtype == dtype
    assert sample["cube"].flags.c_contiguous
    assert np.array_equal(sample["cube"], values.astype(dtype))
    assert sample["wavelength"] == BANDS


@pytest.mark.parametrize("writer", [five, seven])
def test_labels_lie_beside_their_cubes(tmp_path: Path, writer: Callable[..., Path]) -> None:
    marks = np.arange(12.0).reshape(4, 3)
    writer(tmp_path / "Salinas_corrected.mat", salinas_corrected=CUBE)
    writer(tmp_path / "Salinas_gt.mat", salinas_gt=marks)
    writer(tmp_path / "alone.mat", x=CUBE)
    samples = imported("matlab_cubes", tmp_path)
    assert list(samples) == ["Salinas_corrected", "alone"]
    assert np.array_equal(samples["Salinas_corrected"]["labels"], marks)
    assert samples["Salinas_corrected"]["labels"].dtype == np.uint8
    assert "labels" not in samples["alone"]
    assert "labels" in imported("matlab_cubes", tmp_path / "Salinas_corrected.mat")["Salinas_corrected"]
    writer(tmp_path / "Salinas_gt.mat", salinas_gt=marks + 0.5)
    assert "no whole numbers" in refusal("matlab_cubes", tmp_path)
    writer(tmp_path / "Salinas_gt.mat", salinas_gt=marks.T)
    assert "0 maps of the cube's shape (4, 3)" in refusal("matlab_cubes", tmp_path)


@pytest.mark.parametrize("writer", [five, seven])
def test_tables_of_spectra_are_folded(tmp_path: Path, writer: Callable[..., Path]) -> None:
    down = CUBE.transpose(2, 1, 0).reshape(5, 12)  # pixels down the columns first
    along = CUBE.transpose(2, 0, 1).reshape(5, 12)
    writer(tmp_path / "a.mat", Y=down, small=np.ones((2, 3)))
    writer(tmp_path / "b.mat", Y=down.T)
    for sample in imported("matlab_cubes", tmp_path, shape="4x3").values():
        assert np.array_equal(sample["cube"], CUBE)
    writer(tmp_path / "c.mat", Y=along)
    assert np.array_equal(imported("matlab_cubes", tmp_path / "c.mat", shape="4x3", order="row")["c"]["cube"], CUBE)
    assert "shape=HEIGHTxWIDTH" in refusal("matlab_cubes", tmp_path)
    assert "not that of a cube" in refusal("matlab_cubes", tmp_path, shape="4x4", cube="Y")
    for options in ({"shape": "4,3"}, {"shape": "0x3"}, {"order": "diagonal"}):
        with pytest.raises(InvalidSetting):
            imported("matlab_cubes", tmp_path, **options)


def test_the_cube_is_named_where_there_are_several(tmp_path: Path) -> None:
    five(tmp_path / "a.mat", one=CUBE, two=CUBE + 1)
    assert "has 2 arrays of three axes (there are: one (4, 3, 5), two (4, 3, 5))" in refusal("matlab_cubes", tmp_path)
    assert np.array_equal(imported("matlab_cubes", tmp_path, cube="two")["a"]["cube"], CUBE + 1)
    assert "'three'" in refusal("matlab_cubes", tmp_path, cube="three")


def test_wavelengths_are_named_sorted_and_turned_to_nanometres(tmp_path: Path) -> None:
    five(tmp_path / "a.mat", x=CUBE, w=np.array(BANDS)[::-1] / 1000, lambda_=[1, 2])
    sample = imported("matlab_cubes", tmp_path, wavelength="w")["a"]
    assert sample["wavelength"] == pytest.approx(BANDS)
    assert np.array_equal(sample["cube"], CUBE[..., ::-1])
    assert "no 'lambda_' with 5 numbers" in refusal("matlab_cubes", tmp_path, wavelength="lambda_")


@pytest.mark.parametrize("order", ["<", ">"])
def test_version_4_is_known_and_refused(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"cube": CUBE[0].astype(np.float64)}, format="4")
    if order == ">":
        content = path.read_bytes()
        (kind, *rest) = struct.unpack("<5i", content[:20])
        path.write_bytes(struct.pack(">5i", kind + 1000, *rest) + content[20:])
    assert choose_importer(Source(path)).name == "matlab_cubes"
    assert "is a MATLAB file of version 4, which has no cubes. Save it in MATLAB with -v7" in refusal(
        "matlab_cubes", path
    )
    assert importer("matlab_cubes").matches(Source(write(tmp_path / "b.mat", bytes(500)))) == 0


def test_objects_are_never_looked_into(tmp_path: Path) -> None:
    cell = np.empty((2, 2, 2), dtype=object)
    cell[:] = "x"
    five(tmp_path / "a.mat", x=CUBE, cell=cell, struct={"a": CUBE}, text="abc", z=CUBE.astype(complex)[0])
    assert np.array_equal(imported("matlab_cubes", tmp_path)["a"]["cube"], CUBE)
    assert "no array of numbers 'cell'" in refusal("matlab_cubes", tmp_path, cube="cell")
    five(tmp_path / "a.mat", x=CUBE + 1j)
    assert "complex" in refusal("matlab_cubes", tmp_path)


def _linked(path: Path) -> bytes:
    seven(path)
    with h5py.File(path, "r+") as file:
        file["cube"] = h5py.ExternalLink("other.h5", "/cube")
    return path.read_bytes()


def _unwritten(path: Path) -> bytes:
    seven(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("cube", (1000, 1000, 1000), "u2", chunks=(10, 10, 10))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _: b"", "is no MATLAB file"),
        (lambda _: b"just a text", "is no MATLAB file"),
        (lambda path: five(path, x=CUBE).read_bytes()[:128], "has 0 arrays"),
        (lambda path: five(path, x=CUBE).read_bytes()[:-20], ""),
        (lambda path: five(path, x=CUBE, compressed=False).read_bytes()[:-20], "claims"),
        (lambda path: five(path, x=CUBE).read_bytes()[:128] + b"\xff" * 500, ""),
        (lambda path: seven(path, x=CUBE).read_bytes()[:-400], ""),
        (lambda path: seven(path, x=CUBE).read_bytes()[:600], "cannot be read as HDF5"),
        (_linked, "has 0 arrays"),
        (_unwritten, "of which 0 are stored"),
        (lambda path: five(path, x=np.full((2, 2, 2), np.nan)).read_bytes(), "not finite"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: Callable[[Path], bytes], says: str) -> None:
    path = tmp_path / "a.mat"
    text = refusal("matlab_cubes", write(path, content(path)))
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_sizes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = five(tmp_path / "a.mat", compressed=False, x=CUBE)
    content = path.read_bytes().replace(
        np.array([4, 3, 5], "<i4").tobytes(), np.array([40000, 300, 500], "<i4").tobytes()
    )
    text = refusal("matlab_cubes", write(path, content))
    assert "more" in text or "limit" in text
    content = content.replace(np.array([40000, 300, 500], "<i4").tobytes(), np.array([4000, 30, 500], "<i4").tobytes())
    assert "the file has" in refusal("matlab_cubes", write(path, content))
    seven(path, x=CUBE)
    assert "limit" in refusal("matlab_cubes", path, max_values="59")
    assert imported("matlab_cubes", path, max_values="60")["a"]["cube"].size == 60


def test_cubes_go_into_a_catalog_once_and_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    five(folder / "a.mat", x=CUBE, wavelength=BANDS)
    five(folder / "a_gt.mat", y=CUBE[..., 0])
    seven(folder / "b.mat", x=CUBE[:2])
    write(folder / "bad.mat", five(tmp_path / "c.mat", x=1).read_bytes())
    write(folder / "metadata.csv", "id,leaf\na,oak\n")
    assert choose_importer(Source(folder)).name == "matlab_cubes"
    lake = Catalog(tmp_path / "lake")
    report = lake.ingest(folder, "cubes", workers=1)
    assert (report.added, len(report.failed)) == (2, 1)
    again = lake.ingest(folder, "cubes", workers=1)
    assert (again.added, again.skipped) == (0, 2)
    sample = lake["cubes"].select()["a"]
    assert sample["leaf"] == "oak"
    assert np.array_equal(sample["labels"], CUBE[..., 0])
    modalities.get("hyperspectral").preview(Figure().subplots(), {"cube": np.asarray(sample["cube"])})


def test_a_real_table_of_spectra() -> None:
    folder = shared("unclear/hyperspectral/jasper_ridge")
    assert "has 0 arrays of three axes" in refusal("matlab_cubes", folder)
    options = {"cube": "Y", "shape": "100x100"}
    (sample,) = imported("matlab_cubes", folder, **options).values()
    assert importer("matlab_cubes").matches(Source(folder, options)) > 0.5
    cube = sample["cube"]
    assert cube.shape == (100, 100, 198)
    assert (cube.dtype, cube.max()) == (np.uint16, 5437)
    table = scipy.io.loadmat(next(folder.glob("*.mat")), variable_names=["Y"])["Y"]
    for row, column in ((0, 0), (7, 3), (99, 98)):
        assert np.array_equal(cube[row, column], table[:, row + 100 * column])
