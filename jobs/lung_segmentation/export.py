"""A segmentation as files: NIfTI, and a DICOM Segmentation object (Supplement 111, storage class 1.2.840.10008.5.1.4.1.1.66.4).

The DICOM object has one binary segment for each lung, coded with SNOMED CT, and a frame for each slice of a lung that is not
empty, with its own place in the patient; LPS, as DICOM has it. It stands alone: the catalog does not keep the UIDs of the images,
unless the series was imported with ``anonymise=no``, and then study and frame of reference are the caller's to give.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.catalog.modalities.volume import affine_of, write
from sensorium.jobs.training.samples import Sample
from sensorium.platform.optional import require

__all__ = ["to_dicom_seg", "to_nifti"]

_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
#: value of the mask, label, SNOMED CT code and meaning, colour in CIELab as DICOM scales it
_SEGMENTS = (
    (1, "right lung", "3341006", "Right lung", (40000, 20000, 20000)),
    (2, "left lung", "44029006", "Left lung", (45000, 40000, 50000)),
)


def to_nifti(sample: Sample, lungs: NDArray[np.uint8], path: Path) -> Path:
    """Write both lungs, uint8 [Z, Y, X] with 1 right and 2 left, on the sample's grid to ``path`` + ``.nii.gz``."""
    return write({**sample, "volume": lungs, "mask": None}, path)


def to_dicom_seg(sample: Sample, lungs: NDArray[np.uint8], path: Path) -> Path:
    """Write both lungs as a DICOM Segmentation to ``path`` + ``.dcm``.

    Args:
        sample: with ``spacing``, and ``orientation`` or ``affine``.
        lungs: uint8 [Z, Y, X] on its grid: 1 right, 2 left.
        path: without suffix.
    """
    pydicom = require("pydicom", "write DICOM files")
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_of(sample)  # RAS -> LPS
    frames = [
        (value, int(place)) for value, *_ in _SEGMENTS for place in np.flatnonzero((lungs == value).any(axis=(1, 2)))
    ]
    frames = frames or [(1, 0)]  # an object has at least one frame
    data = _head(pydicom, str(sample.get("id", "")))
    data.Rows, data.Columns, data.NumberOfFrames = lungs.shape[1], lungs.shape[2], len(frames)
    used = [one for one in _SEGMENTS if one[0] in {value for value, _ in frames}]
    data.SegmentSequence = [_segment(pydicom, number, *one[1:]) for number, one in enumerate(used, 1)]
    numbers = {one[0]: number for number, one in enumerate(used, 1)}
    data.SharedFunctionalGroupsSequence = [_shared(pydicom, matrix)]
    data.PerFrameFunctionalGroupsSequence = [
        _frame(pydicom, numbers[value], int(place), matrix) for value, place in frames
    ]
    bits = np.stack([lungs[place] == value for value, place in frames])
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    data["PixelData"].VR = "OB"
    target = path.with_name(path.name + ".dcm")
    data.save_as(target, enforce_file_format=True)
    return target


def _head(pydicom: Any, name: str) -> Any:
    """Everything but geometry and pixels."""
    now = datetime.now(UTC)
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    uid = pydicom.uid.generate_uid
    data.SOPClassUID, data.SOPInstanceUID = _STORAGE, uid()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = _STORAGE, data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = _EXPLICIT_LITTLE
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = uid(), uid(), uid()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName = data.PatientBirthDate = data.PatientSex = ""
    data.PatientID = name[:64]
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = data.StudyID = ""
    data.Modality, data.SeriesNumber, data.InstanceNumber = "SEG", 1, 1
    data.SeriesDescription = "lungs"
    data.Manufacturer = data.ManufacturerModelName = "Sensorium"
    data.DeviceSerialNumber, data.SoftwareVersions = "none", "lung_segmentation"
    data.ContentDate = data.SeriesDate = now.strftime("%Y%m%d")
    data.ContentTime = data.SeriesTime = now.strftime("%H%M%S")
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.ContentLabel, data.ContentDescription, data.ContentCreatorName = "LUNGS", "right and left lung", ""
    data.PositionReferenceIndicator = ""
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = 0
    data.LossyImageCompression = "00"
    data.SegmentationType = "BINARY"
    item = pydicom.Dataset()
    item.DimensionOrganizationUID = uid()
    data.DimensionOrganizationSequence = [item]
    data.DimensionIndexSequence = [
        _dimension(pydicom, item.DimensionOrganizationUID, 0x0062000B, 0x0062000A, "segment"),
        _dimension(pydicom, item.DimensionOrganizationUID, 0x00200032, 0x00209113, "position"),
    ]
    return data


def _dimension(pydicom: Any, uid: str, tag: int, group: int, label: str) -> Any:
    item = pydicom.Dataset()
    item.DimensionOrganizationUID = uid
    item.DimensionIndexPointer, item.FunctionalGroupPointer = tag, group
    item.DimensionDescriptionLabel = label
    return item


def _code(pydicom: Any, value: str, scheme: str, meaning: str) -> Any:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _segment(pydicom: Any, number: int, label: str, code: str, meaning: str, colour: tuple[int, int, int]) -> Any:
    item = pydicom.Dataset()
    item.SegmentNumber, item.SegmentLabel = number, label
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", "LCG and MGRF"
    item.SegmentedPropertyCategoryCodeSequence = [_code(pydicom, "123037004", "SCT", "Anatomical Structure")]
    item.SegmentedPropertyTypeCodeSequence = [_code(pydicom, code, "SCT", meaning)]
    item.RecommendedDisplayCIELabValue = list(colour)
    return item


def _shared(pydicom: Any, matrix: NDArray[np.float64]) -> Any:
    """Orientation and size of voxels, the same for all frames."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    orientation, measures, item = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [
        f"{value:.10g}" for value in np.concatenate([matrix[:3, axis] / lengths[axis] for axis in (0, 1)])
    ]
    measures.PixelSpacing = [f"{lengths[1]:.10g}", f"{lengths[0]:.10g}"]  # between rows, between columns
    measures.SliceThickness = measures.SpacingBetweenSlices = f"{lengths[2]:.10g}"
    item.PlaneOrientationSequence, item.PixelMeasuresSequence = [orientation], [measures]
    return item


def _frame(pydicom: Any, number: int, place: int, matrix: NDArray[np.float64]) -> Any:
    """A slice of a segment."""
    content, position, segment, item = (pydicom.Dataset() for _ in range(4))
    content.DimensionIndexValues = [number, place + 1]
    corner = matrix[:3, 3] + place * matrix[:3, 2]
    position.ImagePositionPatient = [f"{value:.8g}" for value in corner]
    segment.ReferencedSegmentNumber = number
    item.FrameContentSequence, item.PlanePositionSequence = [content], [position]
    item.SegmentIdentificationSequence = [segment]
    return item
