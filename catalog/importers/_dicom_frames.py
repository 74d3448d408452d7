"""Headers of DICOM files as frames, and frames as regular stacks: what a volume can be made of, without any pixel.

A frame is one slice: a file of its own, or a part of a multi-frame ("enhanced") file. Places are millimetres in the
patient's LPS space, as DICOM has them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importer import suffix
from sensorium.catalog.importers._files import head, unreadable
from sensorium.platform.errors import UnreadableFile
from sensorium.platform.optional import require

__all__ = ["SUFFIXES", "Frame", "Header", "digest", "is_dicom", "read_header", "split", "step", "uneven"]

SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
#: classes whose frames are no slices of a scan
_OTHER = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "dose grid",
}
_TAGS = (
    *("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "ImageType"),
    *("InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "DiffusionBValue"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_EXPORT = "Export it anew from its source, or leave it out."
#: cosines and millimetres that may differ within one stack
_TILT, _PITCH = 1e-3, 1e-4
#: how far steps between slices may differ, as a part of the step, and in mm (positions are written with few digits)
_UNEVEN, _ROUNDED = 0.02, 0.02


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes:
        path, index: file, and number of the frame in it.
        series: UID.
        shape: rows, columns.
        place: of the first pixel's centre, mm.
        axes: directions in which the columns' and the rows' number grows, 6 cosines.
        pitch: millimetres between rows, between columns.
        thickness: distance to the next slice as the header claims it; used where there is no next slice.
        kind: what parts scans of one place: type of the picture, acquisition, echo, time, diffusion.
    """

    path: Path
    index: int
    series: str
    shape: tuple[int, int]
    place: tuple[float, ...]
    axes: tuple[float, ...]
    pitch: tuple[float, ...]
    thickness: float
    kind: tuple[str, ...]

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Direction in which slices are stacked."""
        return np.cross(self.axes[:3], self.axes[3:])

    @property
    def depth(self) -> float:
        """Place along the normal, mm."""
        return float(self.normal @ np.asarray(self.place))


@dataclass(frozen=True)
class Header:
    """What a file's header says.

    Attributes:
        values: the elements that were asked for.
        frames: slices; none where it is another object.
        other: what it is where it has no slices, in a word or two.
        modality, description: of the series; empty where they are absent.
        study, series: UIDs.
    """

    values: dict[str, Any]
    frames: tuple[Frame, ...] = ()
    other: str = ""
    modality: str = ""
    description: str = ""
    study: str = ""
    series: str = ""


def is_dicom(path: Path) -> bool:
    """By the mark after the preamble; old files without one must be called DICOM and begin with a low group."""
    start = head(path, 132)
    if start[128:] == b"DICM":
        return True
    return suffix(path) in SUFFIXES and len(start) == 132 and start[:4] in (b"\x08\0\0\0", b"\x08\0\5\0", b"\x02\0\0\0")


def read_header(path: Path, also: Iterable[str]) -> Header:
    """The header of ``path`` with the elements ``also``.

    Raises:
        UnreadableFile: it is no DICOM, damaged, or its picture has no place in space.
    """
    pydicom = require("pydicom", "read DICOM files")
    if not is_dicom(path):
        problem = "is empty" if path.is_file() and not path.stat().st_size else "is no DICOM file (no mark DICM)"
        raise unreadable(path, problem, _EXPORT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that keep to no rule; those that matter are checked here
            _refuse_deflated(path, pydicom)
            size = path.stat().st_size  # no element that claims more is read
            tags = [*_TAGS, *also]
            data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags, defer_size=size)
            values = {name: data.get(name) for name in also}
            return _header(path, data, values)
    except UnreadableFile:
        raise
    except Exception as error:  # pydicom lets errors of many kinds through on broken headers
        raise unreadable(path, f"its header cannot be read ({type(error).__name__}: {error})", _EXPORT) from error


def _refuse_deflated(path: Path, pydicom: Any) -> None:
    """A deflated data set would be inflated whole, to any size, before its first element is seen."""
    if head(path, 132)[128:] != b"DICM":
        return
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        raise unreadable(path, "is deflated as a whole", "Convert it to explicit VR little endian.")


def _header(path: Path, data: Any, values: dict[str, Any]) -> Header:
    texts = {name: str(data.get(name) or "") for name in ("Modality", "SeriesDescription", "StudyInstanceUID")}
    series = str(data.get("SeriesInstanceUID") or "")
    found = Header(
        values, (), _other(data), texts["Modality"], texts["SeriesDescription"], texts["StudyInstanceUID"], series
    )
    return found if found.other else replace(found, frames=tuple(_frames(path, data, series)))


def _other(data: Any) -> str:
    """What the object is, if it is nothing that slices of a volume could be."""
    kind = str(data.get("SOPClassUID") or "")
    if kind in _OTHER:
        return _OTHER[kind]
    if kind == _DIRECTORY or not data.get("Rows") or not data.get("Columns"):
        return "no picture"
    if int(data.get("SamplesPerPixel") or 1) != 1 or data.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "colour picture"
    return "bitmap" if data.get("BitsAllocated") == 1 else ""


def _frames(path: Path, data: Any, series: str) -> list[Frame]:
    shape = (int(data.Rows), int(data.Columns))
    count = int(data.get("NumberOfFrames") or 1)
    parts = data.get("PerFrameFunctionalGroupsSequence") or []
    if count < 1 or (parts and len(parts) != count) or (count > 1 and not parts):
        problem = f"its header claims {count} frames, and says of {len(parts)} where they are"
        raise unreadable(path, problem, _EXPORT)
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = []
    for index in range(count):
        groups = [group for group in (parts[index] if parts else None, shared) if group is not None]
        place = _numbers(_find(data, groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
        axes = _numbers(_find(data, groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        pitch = _numbers(_find(data, groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
        if not (place and _spans(axes) and min(pitch, default=0.0) > 0):
            problem = f"frame {index} has no place in space (position, orientation and spacing of pixels are needed)"
            raise unreadable(path, problem, "A projection or photograph is no volume: import it as a picture.")
        measures = ("SpacingBetweenSlices", "SliceThickness")
        known = [_numbers(_find(data, groups, "PixelMeasuresSequence", name), 1) for name in measures]
        thickness = next((abs(value[0]) for value in known if value and value[0]), 0.0)
        kind = _kind(data, groups)
        frames.append(Frame(path, index, series, shape, place, axes, pitch, thickness, kind))
    return frames


def _find(data: Any, groups: Sequence[Any], sequence: str, name: str) -> Any:
    """An element of the frame: in its functional groups, in those that all frames share, or of the file."""
    for group in groups:
        inner = group.get(sequence)
        if inner and inner[0].get(name) is not None:
            return inner[0].get(name)
    return data.get(name)


def _kind(data: Any, groups: Sequence[Any]) -> tuple[str, ...]:
    wanted = (
        ("CTImageFrameTypeSequence", "FrameType"),
        ("MRImageFrameTypeSequence", "FrameType"),
        ("FrameContentSequence", "StackID"),
        ("FrameContentSequence", "FrameAcquisitionNumber"),
        ("FrameContentSequence", "TemporalPositionIndex"),
        ("MREchoSequence", "EffectiveEchoTime"),
        ("MRDiffusionSequence", "DiffusionBValue"),
    )
    own = ("ImageType", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime")
    values = [*(_find(data, groups, *names) for names in wanted), *(data.get(name) for name in own)]
    return tuple("" if value is None else str(value) for value in values)


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """``count`` finite numbers; none at all where there are others."""
    if value is None:
        return ()
    found = tuple(float(number) for number in ([value] if count == 1 else value))
    return found if len(found) == count and all(map(math.isfinite, found)) else ()


def _spans(axes: tuple[float, ...]) -> bool:
    """Whether the six cosines are two directions at right angles."""
    if not axes:
        return False
    one, other = np.asarray(axes[:3]), np.asarray(axes[3:])
    return bool(np.allclose([one @ one, other @ other, one @ other], [1, 1, 0], atol=1e-2))


def split(frames: Sequence[Frame], *, gaps: bool) -> list[list[Frame]]:
    """Parts of a series that are a stack each, ordered along their normal.

    Frames of another shape, orientation or pitch are parted always; acquisitions, echoes and times where they lie in
    one place and each of them is even; at gaps and repeated places where ``gaps`` says so. A stack that is still
    uneven is left so, for :func:`uneven` to name it.
    """
    stacks: list[list[Frame]] = []
    for frame in frames:
        home = next((stack for stack in stacks if _fits(stack[0], frame)), None)
        if home is None:
            stacks.append([frame])
        else:
            home.append(frame)
    result: list[list[Frame]] = []
    for stack in stacks:
        ordered = sorted(stack, key=lambda frame: frame.depth)
        kinds: dict[tuple[str, ...], list[Frame]] = {}
        for frame in ordered:
            kinds.setdefault(frame.kind, []).append(frame)
        parts = list(kinds.values())
        if not uneven(ordered):
            result.append(ordered)
        elif all(len(part) > 1 and not uneven(part) for part in parts):
            result.extend(parts)
        elif gaps:
            result.extend(run for part in parts for run in _runs(part))
        else:
            result.append(ordered)
    return result


def _fits(one: Frame, other: Frame) -> bool:
    return (
        one.series == other.series
        and one.shape == other.shape
        and np.allclose(one.axes, other.axes, atol=_TILT, rtol=0)
        and np.allclose(one.pitch, other.pitch, atol=0, rtol=_PITCH)
    )


def step(stack: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """From one slice to the next, mm in LPS; not along the normal where the gantry was tilted."""
    if len(stack) == 1:
        return stack[0].normal * stack[0].thickness
    ends = np.asarray(stack[0].place), np.asarray(stack[-1].place)
    return np.asarray((ends[1] - ends[0]) / (len(stack) - 1), dtype=np.float64)


def uneven(stack: Sequence[Frame]) -> str:
    """What is wrong with the places of an ordered stack; empty where they are evenly spread on a line."""
    depths = np.array([frame.depth for frame in stack])
    if len(stack) == 1:
        return "" if stack[0].thickness else "its one slice says neither SpacingBetweenSlices nor SliceThickness"
    steps = np.diff(depths)
    usual = float(np.median(steps))
    same = np.flatnonzero(steps < max(1e-3, 0.01 * usual))
    if same.size:
        where = ", ".join(f"{depth:.3f}" for depth in sorted(set(depths[same].tolist()))[:4])
        return f"several of its {len(stack)} slices lie in one place, at {where} mm along the normal"
    wide = np.flatnonzero(np.abs(steps - usual) > max(_ROUNDED, _UNEVEN * usual))
    if wide.size:
        pairs = ", ".join(f"{depths[index]:.3f} and {depths[index + 1]:.3f}" for index in wide[:4])
        return f"its slices are {usual:.3f} mm apart, but not between {pairs} mm along the normal"
    line = np.asarray(stack[0].place) + np.arange(len(stack))[:, np.newaxis] * step(stack)
    away = np.linalg.norm(np.array([frame.place for frame in stack]) - line, axis=1)
    if away.max() > max(5 * _ROUNDED, 0.1 * usual):
        worst = int(away.argmax())
        return f"its slices lie on no line: the one at {depths[worst]:.3f} mm is {away[worst]:.3f} mm off it"
    return ""


def _runs(stack: list[Frame]) -> list[list[Frame]]:
    """Even pieces of an ordered stack: the n-th slices of repeated places together, cut where the step changes."""
    layers: list[list[Frame]] = []
    count, last = 0, -math.inf
    for frame in stack:
        count = count + 1 if frame.depth - last < 1e-3 else 0
        last = frame.depth
        if count == len(layers):
            layers.append([])
        layers[count].append(frame)
    runs: list[list[Frame]] = []
    for layer in layers:
        usual = float(np.median(np.diff([frame.depth for frame in layer]))) if len(layer) > 1 else 0.0
        runs.append([layer[0]])
        for before, frame in itertools.pairwise(layer):
            if abs(frame.depth - before.depth - usual) > max(_ROUNDED, _UNEVEN * usual):
                runs.append([])
            runs[-1].append(frame)
    return runs


def digest(uid: str) -> str:
    """Stands for a UID: the same for equal ones, and nothing that a hospital's system would find."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]
