"""MetaImage files, as ITK writes them, become the volumes that ITK reads; headers that lie are refused."""

from __future__ import annotations

import zlib
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
from tests.catalog.importing import imported, refusal, write

BODY = np.random.default_rng(0).integers(-1000, 1000, (4, 3, 5)).astype(np.int16)  # [Z, Y, X]
PLAIN = "ObjectType = Image\nNDims = 3\nDimSize = 5 3 4\nElementType = MET_SHORT\n"


def by_itk(path: Path, values: Any, *, compressed: bool = False, **geometry: Any) -> Path:
    itk = pytest.importorskip("SimpleITK")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.GetImageFromArray(values)
    image.SetSpacing(geometry.get("spacing", (1.0, 2.0, 3.0)))
    image.SetOrigin(geometry.get("origin", (0.0, 0.0, 0.0)))
    image.SetDirection(geometry.get("direction", np.eye(3).ravel().tolist()))
    itk.WriteImage(image, str(path), compressed)
    return path


@pytest.mark.parametrize("end", [".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_type_comes_back_as_it_was(tmp_path: Path, end: str, compressed: bool, dtype: str) -> None:
    values = np.abs(BODY).astype(dtype) if dtype.startswith("u") else BODY.astype(dtype)
    by_itk(tmp_path / f"é 1/a b{end}", values, compressed=compressed)
    sample = imported("metaimage", tmp_path)["é 1/a b"]
    assert sample["volume"].dtype == dtype
    assert np.array_equal(sample["volume"], values[:, ::-1, ::-1])
    assert sample["spacing"] == pytest.approx([3, 2, 1])
    assert sample["orientation"] == "RAS"


@pytest.mark.parametrize(
    "direction", [(0, 0, 1, 1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, 1, 0, -1, 0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1)]
)
def test_the_place_of_every_voxel_is_that_of_itk(tmp_path: Path, direction: tuple[float, ...]) -> None:
    itk = pytest.importorskip("SimpleITK")
    path = by_itk(tmp_path / "a.mha", BODY, direction=direction, origin=(3.5, -2, 11))
    image = itk.ReadImage(str(path))
    sample = imported("metaimage", path, unit="HU")["a"]
    matrix = np.diag([-1, -1, 1, 1]) @ np.reshape(sample["affine"], (4, 4))
    for z, y, x in np.ndindex(*sample["volume"].shape):
        there = image.TransformPhysicalPointToIndex((matrix @ [x, y, z, 1])[:3].tolist())
        assert sample["volume"][z, y, x] == image[there]
    assert sample["unit"] == "HU"


def test_headers_written_by_hand(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    write(
        tmp_path / "big.mha",
        f"{PLAIN}ElementByteOrderMSB = True\nElementDataFile = LOCAL\n".encode() + BODY.astype(">i2").tobytes(),
    )
    write(tmp_path / "tail.mhd", f"{PLAIN}HeaderSize = -1\nElementDataFile = tail.raw\n")
    write(tmp_path / "tail.raw", b"whatever" * 9 + BODY.tobytes())
    write(
        tmp_path / "skip.mhd",
        f"{PLAIN}HeaderSize = 7\nOffset = 1 2 3\nElementSpacing = 2 2 2\nElementDataFile = skip.raw\n",
    )
    write(tmp_path / "skip.raw", b"1234567" + BODY.tobytes())
    samples = imported("metaimage", tmp_path)
    for name, sample in samples.items():
        assert np.array_equal(sample["volume"], BODY[:, ::-1, ::-1]), name
        end = ".mha" if name == "big" else ".mhd"
        assert np.array_equal(itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / f"{name}{end}"))), BODY), name
    assert samples["skip"]["spacing"] == [2, 2, 2]


def test_letters_stand_for_a_matrix_where_there_is_none(tmp_path: Path) -> None:
    for letters in ("RAI", "LPI", "LPS"):
        content = f"{PLAIN}AnatomicalOrientation = {letters}\nElementDataFile = LOCAL\n".encode() + BODY.tobytes()
        write(tmp_path / f"{letters}.mha", content)
    samples = imported("metaimage", tmp_path)
    assert np.array_equal(samples["RAI"]["volume"], BODY[:, ::-1, ::-1])
    assert np.array_equal(samples["LPI"]["volume"], BODY)
    assert np.array_equal(samples["LPS"]["volume"], BODY[::-1])


@pytest.mark.parametrize("place", ["a_mask.mha", "a-seg.mhd", "masks/a.mha", "labels/a.mhd"])
def test_masks_are_found(tmp_path: Path, place: str) -> None:
    by_itk(tmp_path / "a.mha", BODY)
    marks = (BODY > 0).astype(np.uint8)
    by_itk(tmp_path / place, marks)
    samples = imported("metaimage", tmp_path)
    assert list(samples) == ["a"]
    assert np.array_equal(samples["a"]["mask"], marks[:, ::-1, ::-1])
    by_itk(tmp_path / place, marks, origin=(9, 9, 9))
    assert "not on the grid" in refusal("metaimage", tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no MetaImage"),
        (b"just a text", "is no MetaImage"),
        (PLAIN, "is no MetaImage"),
        (f"{PLAIN}ElementDataFile = LOCAL\n", "claims 120 bytes"),
        (f"{PLAIN}ElementDataFile = LOCAL\n".encode() + BODY.tobytes() + b"x", "claims 120 bytes"),
        (f"{PLAIN}DimSize = 60000 60000 60000\nElementDataFile = LOCAL\n", "more than the limit"),
        (f"{PLAIN}DimSize = 900 900 900\nElementDataFile = LOCAL\n", "claims 1458000000 bytes"),
        (f"{PLAIN}DimSize = 5 -3 4\nElementDataFile = LOCAL\n", "DimSize"),
        (f"{PLAIN}DimSize = 5 3\nElementDataFile = LOCAL\n", "DimSize"),
        (f"{PLAIN}DimSize = 5 3\nNDims = 2\nElementDataFile = LOCAL\n", "not that of one volume"),
        (f"{PLAIN}DimSize = x y z\nElementDataFile = LOCAL\n", "cannot be decoded"),
        (f"{PLAIN}ElementSpacing = 1 0 1\nElementDataFile = LOCAL\n", "no voxel size"),
        (f"{PLAIN}ElementSpacing = 1 nan 1\nElementDataFile = LOCAL\n", "finite numbers"),
        (f"{PLAIN}ElementNumberOfChannels = 3\nElementDataFile = LOCAL\n", "3 channels"),
        (f"{PLAIN}BinaryData = False\nElementDataFile = LOCAL\n", "no binary image"),
        (f"{PLAIN}ElementDataFile = LIST\na.raw\n", "list of files"),
        (f"{PLAIN}ElementDataFile = ../../etc/passwd\n", "not beside it"),
        (f"{PLAIN}ElementDataFile = absent.raw\n", "no absent.raw"),
        (
            f"{PLAIN}CompressedData = True\nElementDataFile = LOCAL\n".encode() + zlib.compress(bytes(119)),
            "compressed values",
        ),
        (
            f"{PLAIN}CompressedData = True\nElementDataFile = LOCAL\n".encode() + zlib.compress(bytes(10**7)),
            "121 bytes or more",
        ),
        (
            f"{PLAIN}CompressedData = True\nElementDataFile = LOCAL\n".encode() + zlib.compress(bytes(120))[:-3],
            "compressed values",
        ),
        (f"{PLAIN}CompressedData = True\nElementDataFile = LOCAL\nrubbish", "cannot be decoded"),
        (
            f"{PLAIN}CompressedData = True\nCompressedDataSize = 999\nElementDataFile = LOCAL\nrubbish",
            "claims 999 bytes",
        ),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = write(tmp_path / "a.mha", content)
    text = refusal("metaimage", path)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_what_is_not_finite_needs_a_number(tmp_path: Path) -> None:
    values = BODY.astype(np.float32)
    values[1, 2, 3] = np.nan
    path = by_itk(tmp_path / "a.mha", values)
    assert "1 values are not finite" in refusal("metaimage", path)
    assert imported("metaimage", path, nan="-3e3")["a"]["volume"][1, 0, 1] == -3000
    with pytest.raises(InvalidSetting, match="nan"):
        imported("metaimage", path, nan="inf")


def test_the_limit_of_voxels_is_an_option(tmp_path: Path) -> None:
    path = by_itk(tmp_path / "a.mha", BODY)
    assert "max_voxels=60" in refusal("metaimage", path, max_voxels="59")
    assert imported("metaimage", path, max_voxels="60")["a"]["volume"].size == 60


def test_volumes_go_into_a_catalog_once_and_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    by_itk(folder / "a.mhd", BODY)
    by_itk(folder / "b.mha", BODY[:2])
    write(folder / "bad.mha", b"")
    write(folder / "metadata.csv", "id,age\na,61\n")
    assert choose_importer(Source(folder)).name == "metaimage"
    lake = Catalog(tmp_path / "lake")
    report = lake.ingest(folder, "scans")
    assert (report.added, len(report.failed)) == (2, 1)
    again = lake.ingest(folder, "scans")
    assert (again.added, again.skipped) == (0, 2)
    sample = lake["scans"].select()["a"]
    assert sample["age"] == 61
    modality = modalities.get("volume")
    modality.preview(Figure().subplots(), {"volume": np.asarray(sample["volume"]), "spacing": sample["spacing"]})
