"""CT, MR, PET and other scans in DICOM files, one sample per series.

``volume`` is [Z, Y, X], the slices ordered by their places along their normal (never by name or number) and turned
(without resampling) to the orientation RAS, as the NIfTI importer does it; ``orientation``, ``spacing`` (z, y, x in mm) and
``affine`` (16 values, (x, y, z) indices to millimetres in RAS) follow from the slices' places, and of a single slice from
its thickness. Multi-frame ("enhanced") files are taken apart and ordered in the same way. A series that mixes shapes,
orientations, acquisitions, echoes or times becomes several samples.

Values are rescaled: where slopes and intercepts are whole, exactly, to int16 (int32, int64 where they do not fit); where they
change nothing the stored type stays; else to float32. ``unit`` is HU for CT, what the header names for PET (``Units``) and for
others (``RescaleType``). ``padding`` is the value that fills what was not scanned. ``study`` and ``series`` are 16 digits of a
hash of the UIDs; ``modality`` and ``series_description`` are as in the header. Names, numbers and birth dates of patients are
not taken over, unless ``anonymise=no``; what folders, files and descriptions are called is, so look at them.

Slices that are missing, or two in one place, are an error that names the places. Reports, directories (DICOMDIR),
segmentations, dose grids and colour pictures are left out. A file that is deflated as a whole is refused. A sample's id is
the place of its file, or of the folder of its files; of several series in one place, with the series' hash.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata, _volumes
from sensorium.catalog.importers._dicom_frames import (
    SUFFIXES,
    Frame,
    Header,
    digest,
    is_dicom,
    read_header,
    split,
    uneven,
)
from sensorium.catalog.importers._dicom_frames import step as step_of
from sensorium.catalog.importers._dicom_pixels import load, rescaled
from sensorium.catalog.importers._files import number, once, places, probe, stem, unreadable, visible
from sensorium.catalog.importers.nifti import upright
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["importer"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_PERSONAL = {"PatientName": "patient_name", "PatientID": "patient_id", "PatientBirthDate": "patient_birth_date"}
_UIDS = {"StudyInstanceUID": "study_uid", "SeriesInstanceUID": "series_uid"}
_RESERVED = (
    *(
        "volume",
        "mask",
        "spacing",
        "orientation",
        "unit",
        "affine",
        "modality",
        "series_description",
        "study",
        "series",
    ),
    *("padding", *_PERSONAL.values(), *_UIDS.values()),
)
_MAX_VOXELS = 1e9
#: names that are looked at to guess whose folder it is
_PROBED = 2000
_REALS, _WHOLES, _TEXTS = (
    ("DS", "FL", "FD"),
    ("IS", "SS", "US", "SL", "UL"),
    (*("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),),
)


def _matches(source: Source) -> float:
    if source.path.is_file():
        return probe(source, SUFFIXES, lambda path: float(is_dicom(path)))
    marks = probe(source, SUFFIXES, lambda path: float(is_dicom(path)))
    return marks or probe(source, _bare(source, _PROBED), lambda path: float(is_dicom(path)))


def _bare(source: Source, most: int | None = None) -> frozenset[str]:
    """Ends of names that are none: files of a scanner are often called by a number or a UID."""
    if not source.path.is_dir():
        return frozenset()
    names = (Path(name) for _, _, names in os.walk(source.path) for name in names)
    return frozenset(end for end in map(suffix, itertools.islice(names, most)) if not end or end[1:].isdigit())


def _files(source: Source) -> list[Path]:
    """What may be DICOM by its name; those without a name of its own must also have the mark."""
    paths = visible(source, SUFFIXES | _bare(source))
    found = [path for path in paths if path == source.path or suffix(path) in SUFFIXES or is_dicom(path)]
    if not found:
        raise unreadable(source.path, "no file below it is DICOM", "Name the folder that holds the files.")
    return found


def _kept(options: Mapping[str, str]) -> dict[str, pa.DataType]:
    """The elements that are taken over by option, with the types that they become."""
    names = [name.strip() for name in options.get("keep", "").split(",") if name.strip()]
    if not names:
        return {}
    dictionary = require("pydicom", "read DICOM files").datadict
    result = {}
    for name in names:
        tag = dictionary.tag_for_keyword(name)
        kind = dictionary.dictionary_VR(tag) if tag is not None else ""
        if kind not in (*_REALS, *_WHOLES, *_TEXTS):
            raise InvalidSetting(
                f"keep: {name!r} is no keyword of a number or text in DICOM, such as PatientAge or KVP."
            )
        if name in _PERSONAL and _anonymised(options):
            raise InvalidSetting(f"keep: {name} names the patient. Say anonymise=no if you may have it.")
        value = pa.float64() if kind in _REALS else pa.int64() if kind in _WHOLES else pa.string()
        result[name] = value if dictionary.dictionary_VM(tag) == "1" else pa.list_(value)
    return result


def _anonymised(options: Mapping[str, str]) -> bool:
    text = options.get("anonymise", "yes")
    if text not in ("yes", "no"):
        raise InvalidSetting(f"anonymise must be yes or no; got {text!r}.")
    return text == "yes"


def _gaps(options: Mapping[str, str]) -> bool:
    text = options.get("gaps", "refuse")
    if text not in ("refuse", "allow"):
        raise InvalidSetting(f"gaps must be refuse or allow; got {text!r}.")
    return text == "allow"


@once
def _stacks(source: Source) -> tuple[Item, ...]:
    """All volumes of the source, without their metadata, and files that cannot be read."""
    kept, gaps = _kept(source.options), _gaps(source.options)
    also = (*kept, *(() if _anonymised(source.options) else _PERSONAL))
    headers: dict[Path, Header] = {}
    broken: list[tuple[Path, str]] = []
    for path in _files(source):
        try:
            headers[path] = read_header(path, also)
        except UnreadableFile as error:
            broken.append((path, str(error)))
    others = Counter(header.other for header in headers.values() if header.other)
    told = ", ".join(f"{what}: {count}" for what, count in sorted(others.items()))
    if told:
        _log.warning("%s: files without slices of a volume are left out (%s)", source.path, told)
    if sum(others.values()) == len(headers) and not broken:
        raise unreadable(source.path, f"none of its files has slices of a volume ({told})", "Name another folder.")
    series: dict[str, list[Frame]] = {}
    for path, header in headers.items():
        for frame in header.frames:
            series.setdefault(header.series or str(path.parent), []).append(frame)
    stacks = [stack for frames in series.values() for stack in split(frames, gaps=gaps)]
    names = _names(source, stacks)
    found = [
        _stack(name, stack, headers[stack[0].path], source.options) for name, stack in zip(names, stacks, strict=True)
    ]
    where = places(source, [path for path, _ in broken])
    found += [Item(where[path], (path,), place={"fault": fault}) for path, fault in broken]
    return tuple(sorted(found, key=lambda item: item.id))


def _names(source: Source, stacks: Sequence[Sequence[Frame]]) -> list[str]:
    """An id for each volume: its file or folder; where several have that, with the series' hash and a number."""
    root = source.path if source.path.is_dir() else source.path.parent
    bare = []
    for stack in stacks:
        paths = sorted({frame.path for frame in stack})
        if len(paths) == 1:
            place = paths[0].relative_to(root).as_posix()
            end = suffix(paths[0])
            bare.append(place[: len(place) - len(end)] if end in SUFFIXES and stem(paths[0]) else place)
        else:
            folder = Path(os.path.commonpath([path.parent for path in paths]))
            bare.append(folder.relative_to(root).as_posix() if folder != root else root.resolve().name)
    counts = Counter(bare)
    names = [
        name if counts[name] == 1 else f"{name}/{digest(stack[0].series)}"
        for name, stack in zip(bare, stacks, strict=True)
    ]
    counts, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        names[index] = name if counts[name] == 1 else f"{name}-{seen[name]}"
    return names


def _stack(name: str, stack: Sequence[Frame], header: Header, options: Mapping[str, str]) -> Item:
    """The item of a volume. Its place has ``frames`` (of each slice, its file's number in ``paths`` and its number there),
    ``shape`` (rows, columns), ``affine`` (16 values, indices of the stack to RAS), ``fault`` (why it cannot be read).
    """
    first = stack[0]
    paths = tuple(dict.fromkeys(frame.path for frame in stack))
    numbers = {path: index for index, path in enumerate(paths)}
    matrix = np.eye(4)
    matrix[:3, 0] = np.multiply(first.axes[:3], first.pitch[1])  # along a row
    matrix[:3, 1] = np.multiply(first.axes[3:], first.pitch[0])
    matrix[:3, 2] = step_of(stack)
    matrix[:3, 3] = first.place
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix  # LPS -> RAS
    problem = uneven(stack)
    remedy = "Find what is missing or twice, or say gaps=allow to import each even part as a sample."
    fault = str(unreadable(first.path.parent, f"series {digest(first.series)}: {problem}", remedy)) if problem else ""
    told = {
        "frames": [[numbers[frame.path], frame.index] for frame in stack],
        "shape": list(first.shape),
        "affine": affine.ravel().tolist(),
        "fault": fault,
    }
    return Item(name, paths, _scalars(header, options), told)


def _scalars(header: Header, options: Mapping[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {"modality": header.modality, "series_description": header.description}
    for name, uid in (("study", header.study), ("series", header.series)):
        result[name] = digest(uid) if uid else ""
        if not _anonymised(options):
            result[f"{name}_uid"] = uid
    if not _anonymised(options):
        result |= {field: str(header.values.get(name) or "") for name, field in _PERSONAL.items()}
    for name, kind in _kept(options).items():
        result[name] = _plain(header.values.get(name), kind)
    return {name: value for name, value in result.items() if value not in (None, "")}


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value of pydicom as one that Arrow takes; None where there is none."""
    if value is None or value == "":
        return None
    if pa.types.is_list(kind):
        many = [value] if isinstance(value, str | int | float) else list(value)
        return [_plain(one, kind.value_type) for one in many]
    return float(value) if kind == pa.float64() else int(value) if kind == pa.int64() else str(value)


@once
def _known(source: Source) -> _metadata.Known:
    owners = {item.id: item.paths[0] for item in _stacks(source)}
    return _metadata.known(source, owners, (*_RESERVED, *_kept(source.options)), label="none")


def _plan(source: Source) -> Iterator[Item]:
    rows = _known(source).rows
    for item in _stacks(source):
        yield Item(item.id, item.paths, {**rows[item.id], **item.scalars}, item.place)


def _fields(source: Source) -> tuple[Field, ...]:
    text = {
        "modality": "as DICOM abbreviates it: CT, MR, PT",
        "series_description": "as the scanner or its user wrote it",
        "study": "hash of the study's UID",
        "series": "hash of the series' UID",
    }
    if not _anonymised(source.options):
        text |= dict.fromkeys((*_PERSONAL.values(), *_UIDS.values()), "as in the header")
    return (
        *_known(source).fields(),
        *(ScalarField(name, pa.string(), description=description) for name, description in text.items()),
        *(ScalarField(name, kind, description="as in the header") for name, kind in _kept(source.options).items()),
        _volumes.AFFINE,
        ScalarField("padding", pa.float64(), description="value that fills what was not scanned"),
    )


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    scalars, stack = dict(item.scalars), item.place
    if stack["fault"]:
        raise UnreadableFile(stack["fault"])
    shape, frames = tuple(stack["shape"]), stack["frames"]
    voxels = len(frames) * math.prod(shape)
    limit = number(options, "max_voxels", _MAX_VOXELS)
    if voxels > limit:
        problem = f"its headers claim {voxels} voxels, more than the limit of {limit:g}"
        raise unreadable(item.paths[0], problem, f"If they are real, raise the limit with max_voxels={voxels}.")
    slices = load(item.paths, frames, shape, scalars.get("modality", ""), limit)
    data = rescaled(item.paths[0], slices)
    volume, affine = upright(data.transpose(2, 1, 0), np.reshape(stack["affine"], (4, 4)))  # [Z, Y, X] -> [X, Y, Z]
    sample = {
        **scalars,
        "volume": volume,
        "spacing": np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist(),
        "orientation": "RAS",
        "affine": affine.ravel().tolist(),
    }
    unit = options.get("unit") or slices.unit
    if unit:
        sample["unit"] = unit
    if slices.padding is not None and len(set(slices.scales)) == 1:
        slope, intercept = slices.scales[0]
        sample["padding"] = slices.padding * slope + intercept
    return sample


importer = Importer(
    name="dicom",
    title="DICOM series: CT, MR, PET",
    modality="volume",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "anonymise": "yes (default): nothing that names the patient becomes a scalar; no: name, number, birth date and UIDs do",
        "keep": "keywords of elements that become scalars of the same name, parted by commas, such as PatientAge,KVP",
        "gaps": "refuse (default): a series with missing or repeated slices is an error; allow: each even part is a sample",
        "unit": "of the values (default: HU for CT, else what the header names)",
        "max_voxels": f"refuse series whose headers claim more (default {_MAX_VOXELS:.0f})",
        **_metadata.OPTIONS,
        **_metadata.PATTERN_OPTION,
    },
)
