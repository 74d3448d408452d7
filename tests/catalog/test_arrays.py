"""NumPy files of any modality: what was saved is what is in the lake."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.export import export
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import importer, refusal, shared, write

RNG = np.random.default_rng(5)


def npz(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def test_archives_name_their_modality_and_their_fields(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "in here"
    cube = RNG.random((4, 5, 6)).astype(np.float32)
    waves = np.linspace(400, 900, 6)
    npz(folder / "ü 1.npz", cube=cube, wavelength=waves, extra=np.arange(3), note=np.array("words"), gain=np.array(2.5))
    report = catalog.ingest(folder, "cubes")
    assert (report.format, report.added, report.failed) == ("arrays", 1, [])
    made = catalog["cubes"]
    assert made.modality.name == "hyperspectral"
    sample = made.select()["ü 1"]
    np.testing.assert_array_equal(sample["cube"], cube)
    np.testing.assert_array_equal(sample["wavelength"], waves)
    np.testing.assert_array_equal(sample["extra"], np.arange(3))
    assert (sample["note"], sample["gain"]) == ("words", 2.5)
    assert catalog.ingest(folder, "cubes").added == 0


def test_options_name_the_arrays_of_fields(catalog: Catalog, tmp_path: Path) -> None:
    before, after = RNG.integers(0, 9000, (2, 5, 4, 13)).astype(np.uint16)
    npz(tmp_path / "in" / "city.npz", t1=before, t2=after, change=np.eye(5, 4, dtype=np.uint8))
    report = catalog.ingest(tmp_path / "in", "pairs", "arrays", options={"before": "t1", "after": "t2"})
    assert report.failed == []
    sample = catalog["pairs"].select()["city"]
    np.testing.assert_array_equal(sample["before"], before)
    np.testing.assert_array_equal(sample["after"], after)
    assert catalog["pairs"].modality.name == "image_pair"
    assert "no array 't9' (there are: t1, t2, change)" in refusal(
        "arrays", tmp_path / "in", modality="image_pair", before="t9"
    )


def test_channels_may_come_first(catalog: Catalog, tmp_path: Path) -> None:
    before, after = RNG.integers(0, 9000, (2, 13, 5, 4)).astype(np.uint16)
    npz(tmp_path / "city.npz", before=before, after=after, change=np.eye(5, 4, dtype=np.uint8))
    catalog.ingest(tmp_path / "city.npz", "pairs", "arrays", options={"channels_first": "yes"})
    sample = catalog["pairs"].select()["city"]
    np.testing.assert_array_equal(sample["before"], before.transpose(1, 2, 0))
    np.testing.assert_array_equal(sample["change"], np.eye(5, 4))


def test_bare_arrays_are_samples_or_rows_of_samples(catalog: Catalog, tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (6, 4, 5, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    npy(tmp_path / "in" / "all.npy", images)
    catalog.ingest(tmp_path / "in", "rows", options={"modality": "image", "rows": "yes"})
    found = catalog["rows"].select()
    assert [sample.id for sample in found] == [f"all/{n}" for n in range(6)]
    np.testing.assert_array_equal(np.stack([sample["image"] for sample in found]), images)
    npy(tmp_path / "one.npy", images[0])
    catalog.ingest(tmp_path / "one.npy", "one", options={"modality": "image"})
    np.testing.assert_array_equal(catalog["one"].select()["one"]["image"], images[0])


def test_rows_of_several_files_are_the_same_samples(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    images, labels = RNG.integers(0, 255, (3, 4, 5, 3)).astype(np.uint8), np.array([4, 0, 2])
    for split in ("train", "ä b"):
        (folder / split).mkdir(parents=True)
        npy(folder / split / "X.npy", images)
        npy(folder / split / "y.npy", labels)
        npy(folder / split / "extra 1.npy", RNG.random((3, 7)))
    options = {"modality": "image", "rows": "together", "image": "X"}
    report = catalog.ingest(folder, "rows", options=options)
    assert (report.format, report.added, report.failed) == ("arrays", 6, [])
    found = catalog["rows"].select()
    assert [sample.id for sample in found] == [f"{split}/{n}" for split in ("train", "ä b") for n in range(3)]
    assert [sample["y"] for sample in found] == [4, 0, 2] * 2
    assert all(type(sample["y"]) is int for sample in found)
    np.testing.assert_array_equal(np.stack([sample["image"] for sample in found]), np.tile(images, (2, 1, 1, 1)))
    np.testing.assert_array_equal(found["train/1"]["extra_1"], np.load(folder / "train/extra 1.npy")[1])
    assert (found["train/1"]["split"], found["train/1"]["source"]) == ("train", "train")
    assert catalog.ingest(folder, "rows", options=options).added == 0
    npy(folder / "train" / "y.npy", labels[:2])
    assert "differ in their numbers of rows (X.npy has 3, extra 1.npy has 3, y.npy has 2)" in refusal(
        "arrays", folder, **options
    )


def test_a_table_of_features_in_files(catalog: Catalog) -> None:
    folder = shared("hyperspectral/grapevine_leaf_spectra")
    catalog.ingest(folder, "leaves", "arrays", options={"modality": "table", "rows": "together"})
    found = catalog["leaves"].select()
    assert len(found) == 164
    np.testing.assert_array_equal(found["7"]["X"], np.load(folder / "X.npy")[7])
    assert [found["7"][name] for name in ("y_chl", "y_stress")] == [
        np.load(folder / f"{name}.npy")[7] for name in ("y_chl", "y_stress")
    ]


def test_what_we_export_as_npz_comes_back(catalog: Catalog, tmp_path: Path) -> None:
    made = catalog.create("scans", modality="volume")
    volume = RNG.integers(-1000, 900, (3, 4, 5)).astype(np.int16)
    made.append([{"id": "a/b", "volume": volume, "mask": (volume > 0).astype(np.uint8)}])
    export(made.select(), tmp_path / "out", format="npz")
    assert choose_importer(Source(tmp_path / "out")).name == "arrays"
    catalog.ingest(tmp_path / "out", "again")
    sample = catalog["again"].select()["a/b"]
    np.testing.assert_array_equal(sample["volume"], volume)
    assert sample["mask"].dtype == np.uint8


def test_nothing_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    npy(tmp_path / "in" / "a.npy", np.zeros((3, 3)))
    assert importer("arrays").matches(Source(tmp_path / "in")) == 0
    assert "Say modality=NAME" in refusal("arrays", tmp_path / "in")
    npz(tmp_path / "two" / "a.npz", image=np.zeros((3, 3, 1)), cube=np.zeros((3, 3, 2)))
    assert "which modality is it? (they hold cube, image)" in refusal("arrays", tmp_path / "two")


def hostile(kind: str) -> bytes:
    content = io.BytesIO()
    np.save(content, np.arange(1000.0))
    if kind == "truncated":
        return content.getvalue()[:500]
    if kind == "zero bytes":
        return b""
    if kind == "objects":
        content = io.BytesIO()
        np.save(content, np.array([{}], dtype=object), allow_pickle=True)
        return content.getvalue()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 2), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "its header claims 8000 bytes"),
        ("zero bytes", "is no NumPy file"),
        ("objects", "never unpickled"),
        ("claims too much", "its header claims 64000000000 bytes"),
    ],
)
def test_a_bad_file_is_named(kind: str, says: str, catalog: Catalog, tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "bad.npy", hostile(kind))
    npy(tmp_path / "in" / "good.npy", np.zeros((2, 3, 1), np.uint8))
    report = catalog.ingest(tmp_path / "in", "images", "arrays", options={"modality": "image"})
    assert report.added == 1
    ((name, reason),) = report.failed
    assert name == str(path)
    assert says in reason


def test_an_archive_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", b"\0" * 30_000_000)
    assert "more than the limit" in refusal("arrays", path, modality="image", max_bytes="1e6")
