"""NumPy arrays: one of a field (``.npy``), or those of a whole sample (``.npz``), whose members are the fields' names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sensorium.catalog.fields import ArrayField
from sensorium.serve.uploads import archives, npy, series, volumes
from sensorium.serve.uploads._upload import Upload, target
from sensorium.serve.uploads.errors import NOT_TAKEN, RejectedUpload
from sensorium.serve.uploads.kinds import is_dicom

__all__ = ["read_archive", "read_array"]


def read_array(upload: Upload) -> dict[str, Any]:
    """``{field: array}``, the array as it is in the file.

    Raises:
        RejectedUpload: as :func:`.npy.parse`.
    """
    return {target(upload).name: npy.parse(upload.data, upload.limits, upload.label)}


def read_archive(upload: Upload) -> dict[str, Any]:
    """The fields of an NPZ archive, or the volume of an archive of DICOM slices.

    A member of one value is a scalar, one of text a list; other lists of a declared scalar become lists too. Members are
    named after fields, or, where a signal is wanted, have the usual names of the importer of NumPy archives.

    Raises:
        RejectedUpload: 413 too large or packed too tightly, 415 Python objects or something else than arrays, 422 damaged.
    """
    with archives.opened(upload.data, upload.label) as archive:
        infos = archives.members(archive, len(upload.data), upload.label, upload.limits)
        if not infos:
            raise RejectedUpload(f"{upload.label}: holds no file. Pack the arrays of one sample.")
        arrays = [info for info in infos if info.filename.endswith(".npy")]
        if not arrays and is_dicom(archives.read_member(archive, infos[0], upload.label)):
            return volumes.read_slices(replace(upload, field=_volume(upload)))
        if len(arrays) < len(infos) or upload.field is not None:
            raise RejectedUpload(
                f"{upload.label}: is an archive of something else than the NumPy arrays of a whole sample. Save its fields with "
                f"numpy.savez and send it as 'file'.",
                NOT_TAKEN,
            )
        sample: dict[str, Any] = {}
        for info in arrays:
            name = archives.array_name(info, upload.label)
            content = archives.read_member(archive, info, upload.label)
            array = npy.parse(content, upload.limits, f"{upload.label}, array {name!r}", text=True)
            sample[name] = _value(upload, name, array)
    own = {field.name for field in upload.modality.fields}
    has_signal = any(field.dims == series.SERIES for field in upload.modality.arrays.values())
    return series.read_usual_arrays(upload) if has_signal and not (own & set(sample) - {"channels"}) else sample


def _volume(upload: Upload) -> ArrayField:
    """The field that slices make."""
    fields = [upload.field] if upload.field is not None else list(upload.modality.arrays.values())
    found = next((field for field in fields if field.dims == volumes.VOLUME), None)
    if found is None:
        raise RejectedUpload(
            f"{upload.label}: DICOM slices are a volume, which modality {upload.modality.name} has not here.", NOT_TAKEN
        )
    return found


def _value(upload: Upload, name: str, array: Any) -> Any:
    if array.ndim and array.dtype.kind not in "US" and name not in upload.modality.scalars:
        return array
    try:
        value = array.tolist()
        return [_text(one) for one in value] if array.dtype.kind == "S" and array.ndim == 1 else _text(value)
    except ValueError as error:  # code points that Unicode has not
        raise RejectedUpload(f"{upload.label}, array {name!r}: its text is damaged. Save it anew.") from error


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value
