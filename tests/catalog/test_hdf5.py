"""HDF5 files of any modality, by options; what points out of a file, or claims what it does not hold, is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting, SensoriumError
from tests.catalog.importing import imported, importer, refusal, write

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


def saved(path: Path, **data: Any) -> Path:
    """A file with the data sets ``data``; ``__`` parts groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name.replace("__", "/")] = values
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", ">u2", ">f4"])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype: str) -> None:
    values = PICTURES[0].astype(dtype)
    saved(tmp_path / "é 1/a b.h5", image=values, scans__t1=values + 1)
    sample = imported("hdf5", tmp_path, modality="image")["é 1/a b"]
    assert sample["image"].dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(sample["image"], values)
    other = imported("hdf5", tmp_path, modality="image", image="/scans/t1")["é 1/a b"]
    assert np.array_equal(other["image"], values + 1)


def test_scalars_are_attributes_data_sets_or_texts(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.h5", eeg__raw=RNG.normal(size=(2, 50)).astype(np.float32), eeg__note="of two words", n=7)
    with h5py.File(path, "r+") as file:
        file["eeg/raw"].attrs["sampling_rate"] = 250
        file["eeg"].attrs["fs"] = np.float64(125)
        file["eeg"].attrs["names"] = ["Fz", "Cz"]
    options = {"modality": "series", "signal": "eeg/raw"}
    assert imported("hdf5", tmp_path, **options)["a"]["sampling_rate"] == 250
    options |= {"sampling_rate": "/eeg@fs", "channels": "eeg@names", "scalars": "note:/eeg/note, n:n"}
    sample = imported("hdf5", tmp_path, **options)["a"]
    assert (sample["sampling_rate"], sample["channels"], sample["note"], sample["n"]) == (
        125,
        ["Fz", "Cz"],
        "of two words",
        7,
    )
    with h5py.File(path, "r+") as file:
        file.attrs["sampling_rate"] = 500.0
        del file["eeg/raw"].attrs["sampling_rate"]
    assert imported("hdf5", tmp_path, modality="series", signal="eeg/raw")["a"]["sampling_rate"] == 500
    assert "no attribute 'x'" in refusal("hdf5", tmp_path, **options | {"channels": "eeg@x"})
    for text in ("note", "note:", "a b:/n"):
        with pytest.raises(SensoriumError):
            imported("hdf5", tmp_path, **options | {"scalars": text})


def test_rows_are_samples(tmp_path: Path) -> None:
    names = [f"class {index % 2}" for index in range(5)]
    saved(tmp_path / "a.h5", x=PICTURES, y=np.arange(5), z=names, source=3.5)
    options = {"modality": "image", "image": "x", "rows": "yes", "scalars": "class:y,name:z,gain:source"}
    samples = imported("hdf5", tmp_path, **options)
    assert list(samples) == [f"a/{index}" for index in range(5)]
    for index, sample in enumerate(samples.values()):
        assert np.array_equal(sample["image"], PICTURES[index])
        assert (sample["class"], sample["name"], sample["gain"]) == (index, f"class {index % 2}", 3.5)
    cubes = RNG.random((3, 4, 5, 6)).astype(np.float32)
    saved(tmp_path / "b.h5", cube=cubes, wavelength=np.arange(6) + 400.0)
    rows = imported("hdf5", tmp_path / "b.h5", modality="hyperspectral", rows="yes")
    assert np.array_equal(rows["b/2"]["cube"], cubes[2])
    assert rows["b/2"]["wavelength"] == [400, 401, 402, 403, 404, 405]
    saved(tmp_path / "a.h5", x=PICTURES, y=np.arange(4))
    assert "(x: 5, y: 4)" in refusal("hdf5", tmp_path / "a.h5", modality="image", image="x", rows="yes", scalars="n:y")
    with pytest.raises(InvalidSetting, match="rows"):
        imported("hdf5", tmp_path, modality="image", rows="maybe")


def test_the_modality_has_to_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.h5", image=PICTURES[0])
    assert "modality=NAME" in refusal("hdf5", path)
    assert importer("hdf5").makes(Source(path, {"modality": "volume"})) == "volume"
    with pytest.raises(SensoriumError, match="pictures"):
        imported("hdf5", path, modality="pictures")
    assert "no data set 'volume' (there are: /image (4, 6, 3))" in refusal("hdf5", path, modality="volume")


def _file(path: Path, fill: Callable[[h5py.File], Any]) -> bytes:
    with h5py.File(path, "w") as file:
        fill(file)
    return path.read_bytes()


def _external(file: h5py.File) -> None:
    file.create_dataset("image", (4, 6), "u1", external=[("/etc/passwd", 0, 24)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 6), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "image", (4, 6))
    file.create_virtual_dataset("image", layout)


def _references(file: h5py.File) -> None:
    file["x"] = 1
    file.create_dataset("image", (2, 2), h5py.ref_dtype)


def _foreign(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4, 6))
    plan.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"image", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((4, 6)), plan)


def _soft(file: h5py.File) -> None:
    file["x"] = PICTURES[0]
    file["image"] = h5py.SoftLink("/x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _: b"", "is no HDF5"),
        (lambda _: b"just a text", "is no HDF5"),
        (lambda path: saved(path, image=PICTURES[0]).read_bytes()[:-30], "cannot be read as HDF5"),
        (lambda path: saved(path, image=PICTURES[0]).read_bytes()[:100], "cannot be read as HDF5"),
        (lambda path: saved(path, image=PICTURES[0]).read_bytes()[:8] + b"\xff" * 900, "cannot be read as HDF5"),
        (lambda path: _file(path, _external), "in other files"),
        (lambda path: _file(path, _virtual), "in other files"),
        (lambda path: _file(path, _references), "no numbers"),
        (lambda path: _file(path, _foreign), "foreign filter (number 32015)"),
        (lambda path: _file(path, _soft), "is a link"),
        (lambda path: _file(path, lambda f: f.update({"image": h5py.ExternalLink("b.h5", "/x")})), "is a link"),
        (lambda path: _file(path, lambda f: f.create_group("image")), "is a group"),
        (
            lambda path: _file(path, lambda f: f.create_dataset("image", (900, 900, 3), "u1", chunks=True)),
            "0 are stored",
        ),
        (lambda path: _file(path, lambda f: f.create_dataset("image", (90000, 90000, 3), "u1", chunks=True)), "limit"),
        (lambda path: _file(path, lambda f: f.create_dataset("image", (0, 9), "u1")), "without any value"),
        (lambda path: saved(path, image=np.full((3, 3), np.nan, np.float32)).read_bytes(), "not finite"),
    ],
)
def test_broken_and_hostile_files_are_refused(tmp_path: Path, content: Callable[[Path], bytes], says: str) -> None:
    path = tmp_path / "a.h5"
    text = refusal("hdf5", write(path, content(path)), modality="image", image="/image")
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_the_limit_of_values_is_an_option_and_nan_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.h5", image=np.array([[1, np.nan]], np.float32))
    assert "max_values=2" in refusal("hdf5", path, modality="image", max_values="1")
    assert imported("hdf5", path, modality="image", nan="-1")["a"]["image"].tolist() == [[1, -1]]


def test_samples_go_into_a_catalog_once_and_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    saved(folder / "a.h5", image=PICTURES[0])
    saved(folder / "b.h5", image=PICTURES[1][:2])
    write(folder / "bad.h5", b"")
    write(folder / "metadata.csv", "id,age\na,61\n")
    options = {"modality": "image"}
    assert choose_importer(Source(folder, options)).name == "hdf5"
    assert choose_importer(Source(folder)).name == "hdf5"
    lake = Catalog(tmp_path / "lake")
    report = lake.ingest(folder, "pictures", options=options, workers=1)
    assert (report.added, len(report.failed)) == (2, 1)
    again = lake.ingest(folder, "pictures", options=options, workers=1)
    assert (again.added, again.skipped) == (0, 2)
    made = lake["pictures"]
    assert made.modality.name == "image"
    sample = made.select()["a"]
    assert sample["age"] == 61
    assert np.array_equal(sample["image"], PICTURES[0])
    modalities.get("image").preview(Figure().subplots(), {"image": np.asarray(sample["image"])})
