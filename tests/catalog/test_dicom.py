"""DICOM series become volumes ordered by their places, turned with their affine, in true units, without names of patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from matplotlib.figure import Figure
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, refusal, shared, write

FOLDER = Path(pydicom.__file__).parent / "data/test_files"
AXIAL = (1.0, 0, 0, 0, 1, 0)
#: stored values of a scan of 4 slices
STORED = np.random.default_rng(0).integers(0, 3000, (4, 5, 6)).astype(np.uint16)


def data_set(pixels: Any, place: Sequence[float], series: str = "1.2.3", **elements: Any) -> FileDataset:
    """A slice [Y, X] (or a pile of frames) as a CT scanner writes it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    result = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": series,
        "Modality": "CT",
        "SeriesDescription": "chest",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "PatientBirthDate": "19500102",
        "ImagePositionPatient": [float(value) for value in place],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 9,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **elements,
    }
    for name, value in values.items():
        if value is not None:
            setattr(result, name, value)
    return result


def save(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def scan(folder: Path, stored: Any = STORED, series: str = "1.2.3", **elements: Any) -> list[Path]:
    """A series whose names and numbers run against its places, 2.5 mm apart."""
    paths = []
    for index, part in enumerate(stored):
        place = (-10, 20, 7 + 2.5 * index)
        data = data_set(part, place, series, InstanceNumber=9 - index, **elements)
        paths.append(save(folder / f"{90 - index}.dcm", data))
    return paths


def test_slices_are_ordered_by_their_places_and_turned(tmp_path: Path) -> None:
    scan(tmp_path / "é 1")
    sample = imported("dicom", tmp_path)["é 1"]
    expected = STORED.astype(np.int16)[:, ::-1, ::-1] - 1024  # LPS -> RAS turns x and y
    assert sample["volume"].dtype == np.int16
    assert np.array_equal(sample["volume"], expected)
    assert sample["spacing"] == pytest.approx([2.5, 0.75, 0.5])
    matrix = np.reshape(sample["affine"], (4, 4))
    assert matrix == pytest.approx(np.array([[0.5, 0, 0, 7.5], [0, 0.75, 0, -23], [0, 0, 2.5, 7], [0, 0, 0, 1]]))
    assert (sample["orientation"], sample["unit"], sample["modality"]) == ("RAS", "HU", "CT")
    assert sample["series_description"] == "chest"
    assert len(sample["study"]) == len(sample["series"]) == 16


@pytest.mark.parametrize("axes", [AXIAL, (0, 1.0, 0, 0, 0, -1), (1.0, 0, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_the_place_of_every_voxel_is_that_of_another_library(tmp_path: Path, axes: tuple[float, ...]) -> None:
    itk = pytest.importorskip("SimpleITK")
    normal = np.cross(axes[:3], axes[3:])
    for index, part in enumerate(STORED):
        place = np.array([3, -4, 5]) + 1.5 * index * normal
        save(tmp_path / f"{index}.dcm", data_set(part, place, ImageOrientationPatient=list(axes)))
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    values = itk.GetArrayFromImage(image)
    sample = imported("dicom", tmp_path)[tmp_path.name]
    matrix = np.diag([-1, -1, 1, 1]) @ np.reshape(sample["affine"], (4, 4))
    assert sorted(sample["volume"].shape) == sorted(values.shape)
    for z, y, x in np.ndindex(*sample["volume"].shape):
        there = image.TransformPhysicalPointToIndex((matrix @ [x, y, z, 1])[:3].tolist())
        assert sample["volume"][z, y, x] == values[there[::-1]]


@pytest.mark.parametrize(
    ("elements", "dtype", "values"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, "uint16", lambda stored: stored),
        ({"RescaleSlope": "2", "RescaleIntercept": "-1000"}, "int16", lambda stored: stored * 2 - 1000),
        ({"RescaleSlope": "100", "RescaleIntercept": "0"}, "int32", lambda stored: stored * 100),
        ({"RescaleSlope": "0.5", "RescaleIntercept": "-1000"}, "float32", lambda stored: stored * 0.5 - 1000),
    ],
)
def test_values_are_rescaled_exactly(
    tmp_path: Path, elements: dict[str, Any], dtype: str, values: Callable[[Any], Any]
) -> None:
    scan(tmp_path, **elements)
    volume = imported("dicom", tmp_path)[tmp_path.name]["volume"]
    assert volume.dtype == dtype
    assert np.array_equal(volume[:, ::-1, ::-1], values(STORED.astype(np.int64)).astype(dtype))


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    for index, part in enumerate(STORED):
        data = data_set(part, (0, 0, index), Modality="PT", Units="BQML", RescaleSlope=index + 0.5, RescaleIntercept=0)
        save(tmp_path / f"{index}.dcm", data)
    sample = imported("dicom", tmp_path)[tmp_path.name]
    expected = STORED[:, ::-1, ::-1] * (np.arange(4) + 0.5)[:, np.newaxis, np.newaxis]
    assert np.array_equal(sample["volume"], expected.astype(np.float32))
    assert sample["unit"] == "BQML"
    assert imported("dicom", tmp_path, unit="SUV")[tmp_path.name]["unit"] == "SUV"


def test_padding_is_noted_in_the_volumes_unit(tmp_path: Path) -> None:
    stored = STORED.astype(np.int16)
    data = [data_set(part, (0, 0, index)) for index, part in enumerate(stored)]
    for index, one in enumerate(data):
        one.add_new("PixelPaddingValue", "SS", -2000)
        save(tmp_path / f"{index}.dcm", one)
    assert imported("dicom", tmp_path)[tmp_path.name]["padding"] == -3024


def test_missing_and_repeated_slices_are_named_or_parted(tmp_path: Path) -> None:
    paths = scan(tmp_path, np.concatenate([STORED, STORED]))
    paths[4].unlink()
    text = refusal("dicom", tmp_path)
    assert "2.500 mm apart, but not between 14.500 and 19.500 mm" in text
    parts = imported("dicom", tmp_path, gaps="allow")
    assert [sample["volume"].shape for sample in parts.values()] == [(4, 5, 6), (3, 5, 6)]
    save(tmp_path / "again.dcm", data_set(STORED[0], (-10, 20, 7)))
    assert "lie in one place, at 7.000 mm" in refusal("dicom", tmp_path)
    assert sorted(len(sample["volume"]) for sample in imported("dicom", tmp_path, gaps="allow").values()) == [1, 3, 4]
    with pytest.raises(InvalidSetting, match="gaps"):
        imported("dicom", tmp_path, gaps="maybe")


def test_series_acquisitions_and_orientations_are_parted(tmp_path: Path) -> None:
    scan(tmp_path, series="1.2.3")
    scan(tmp_path / "x", STORED[:2] + 1, AcquisitionNumber=2)
    for index, part in enumerate(STORED[:, :4, :4]):
        side = [0, 1, 0, 0, 0, -1]
        save(tmp_path / f"s{index}", data_set(part, (3 * index, 0, 0), ImageOrientationPatient=side))
        save(tmp_path / f"t{index}.7", data_set(part, (0, 0, 3 * index), "1.2.4"))
    samples = imported("dicom", tmp_path)
    shapes = sorted(sample["volume"].shape for sample in samples.values())
    assert shapes == [(2, 5, 6), (4, 4, 4), (4, 4, 4), (4, 5, 6)]
    assert len({sample["series"] for sample in samples.values()}) == 2


def test_multi_frame_files_are_ordered_by_the_places_of_their_frames(tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    data = data_set(STORED[order], (0, 0, 0), SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=4)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    shared_, measures, axes = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 9
    axes.ImageOrientationPatient = list(AXIAL)
    shared_.PixelMeasuresSequence, shared_.PlaneOrientationSequence = Items([measures]), Items([axes])
    data.SharedFunctionalGroupsSequence = Items([shared_])
    frames = []
    for index in order:
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 2 * index]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, index, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Items([place]), Items([values])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    save(tmp_path / "a.dcm", data)
    sample = imported("dicom", tmp_path)["a"]
    assert np.array_equal(sample["volume"][:, ::-1, ::-1], STORED + np.arange(4)[:, np.newaxis, np.newaxis])
    assert sample["spacing"] == pytest.approx([2, 0.75, 0.5])
    assert sample["unit"] == "HU"


def test_a_tilted_gantry_stays_in_the_affine(tmp_path: Path) -> None:
    for index, part in enumerate(STORED):
        save(tmp_path / f"{index}.dcm", data_set(part, (0, 0.5 * index, 2 * index)))
    matrix = np.reshape(imported("dicom", tmp_path)[tmp_path.name]["affine"], (4, 4))
    assert matrix[:3, 2] == pytest.approx([0, -0.5, 2])


def test_patients_are_not_named_unless_asked(tmp_path: Path) -> None:
    scan(tmp_path, KVP=120, PatientAge="071Y", ImageType=["ORIGINAL", "PRIMARY"])
    sample = imported("dicom", tmp_path, keep="PatientAge, KVP,ImageType")[tmp_path.name]
    assert not any("Doe" in str(value) or "4711" in str(value) or "1.2.3" in str(value) for value in sample.values())
    assert (sample["PatientAge"], sample["KVP"], sample["ImageType"]) == ("071Y", 120.0, ["ORIGINAL", "PRIMARY"])
    open_ = imported("dicom", tmp_path, anonymise="no")[tmp_path.name]
    assert (open_["patient_name"], open_["patient_id"], open_["patient_birth_date"]) == ("Doe^Jane", "4711", "19500102")
    assert open_["series_uid"] == "1.2.3"
    for options in ({"keep": "PatientName"}, {"keep": "Nonsense"}, {"keep": "PixelData"}, {"anonymise": "perhaps"}):
        with pytest.raises(InvalidSetting):
            imported("dicom", tmp_path, **options)


@pytest.mark.parametrize(
    "name",
    ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"],
)
def test_transfer_syntaxes_give_the_same_values(name: str) -> None:
    plain, other = (
        imported("dicom", Path(str(get_testdata_file(file)))) for file in ("MR_small.dcm", f"MR_small_{name}.dcm")
    )
    assert np.array_equal(plain["MR_small"]["volume"], other[f"MR_small_{name}"]["volume"])
    raw = pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array
    assert np.array_equal(plain["MR_small"]["volume"][0], raw[::-1, ::-1])
    assert "unit" not in plain["MR_small"]


def test_what_has_no_slices_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("reportsi.dcm", "liver_1frame.dcm", "rtdose.dcm", "SC_rgb_rle.dcm", "dicomdirtests/DICOMDIR"):
        write(tmp_path / name, (FOLDER / name).read_bytes())
    assert "colour picture: 1, dose grid: 1, no picture: 2, segmentation: 1" in refusal("dicom", tmp_path)
    scan(tmp_path / "scan")
    write(tmp_path / "README", "of two\n" * 40)
    assert list(imported("dicom", tmp_path)) == ["scan"]
    assert "left out" in caplog.text


def _claiming(path: Path, **elements: Any) -> bytes:
    data = data_set(STORED[0], (0, 0, 0))
    for name, value in elements.items():
        setattr(data, name, value)
    return save(path, data).read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: b"just a text" * 50, "is no DICOM file"),
        (lambda _: b"\0" * 128 + b"DICM" + b"\xff" * 500, ""),
        (lambda path: _claiming(path)[:-20], "pixels cannot be decoded"),
        (lambda path: _claiming(path)[:500], ""),
        (lambda path: _claiming(path, Rows=60000, Columns=60000), "more than the limit"),
        (lambda path: _claiming(path, Rows=3000), "the file has"),
        (lambda path: _claiming(path, NumberOfFrames=1000), "claims 1000 frames"),
        (lambda path: _claiming(path, PixelSpacing=[0, 1]), "no place in space"),
        (lambda path: _claiming(path, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "no place in space"),
        (lambda path: _claiming(path, RescaleSlope=0), "slope"),
        (lambda _: (FOLDER / "image_dfl.dcm").read_bytes(), "deflated"),
        (lambda _: (FOLDER / "MR_truncated.dcm").read_bytes(), ""),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: Callable[[Path], bytes], says: str) -> None:
    path = write(tmp_path / "a.dcm", b"")
    text = refusal("dicom", write(path, content(path)))
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_a_series_goes_into_a_catalog_once(tmp_path: Path) -> None:
    scan(tmp_path / "files/one")
    write(tmp_path / "files/bad.dcm", b"")
    write(tmp_path / "files/metadata.csv", "id,age\none,61\n")
    source = Source(tmp_path / "files")
    assert choose_importer(source).name == "dicom"
    lake = Catalog(tmp_path / "lake")
    report = lake.ingest(tmp_path / "files", "scans", workers=1)
    assert (report.added, len(report.failed)) == (1, 1)
    again = lake.ingest(tmp_path / "files", "scans", workers=1)
    assert (again.added, again.skipped) == (0, 1)
    assert lake["scans"].select()["one"]["age"] == 61


def test_a_preview_is_drawn(tmp_path: Path) -> None:
    scan(tmp_path)
    sample = imported("dicom", tmp_path)[tmp_path.name]
    modality = modalities.get("volume")
    assert modality.check is not None
    assert list(modality.check(sample)) == []
    modality.preview(Figure().subplots(), sample)


def test_the_limit_of_voxels_is_an_option(tmp_path: Path) -> None:
    scan(tmp_path)
    assert "max_voxels=120" in refusal("dicom", tmp_path, max_voxels="119")
    assert imported("dicom", tmp_path, max_voxels="120")[tmp_path.name]["volume"].size == 120


def test_a_real_slice_without_modality() -> None:
    sample = imported("dicom", shared("unclear/ct/lungmask_testdata"))["0"]
    raw = pydicom.dcmread(shared("unclear/ct/lungmask_testdata") / "0.dcm").pixel_array
    assert np.array_equal(sample["volume"][0], raw[::-1, ::-1])
    assert sample["spacing"] == pytest.approx([1, 0.625, 0.625])
    assert "unit" not in sample
    assert importer("dicom").matches(Source(shared("unclear/ct/lungmask_testdata"))) > 0.5
