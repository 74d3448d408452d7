"""Series: tables, EDF and BDF, and archives of arrays with usual names, as their importers read them."""

from __future__ import annotations

from typing import Any

from sensorium.catalog.importer import Item, Source
from sensorium.catalog.importers import edf, npz, series_table
from sensorium.serve.uploads._upload import Upload, on_disk, too_large
from sensorium.serve.uploads.errors import TOO_LARGE, RejectedUpload

__all__ = ["SERIES", "read_recording", "read_table", "read_usual_arrays"]

#: dims of the fields that only samples of series have
SERIES = "C T"


def read_recording(upload: Upload) -> dict[str, Any]:
    """``signal`` [C, T] in µV or the file's own units, ``sampling_rate``, ``channels`` and ``units`` of EDF or BDF.

    Neither the patient nor the date of the recording is carried over.

    Raises:
        RejectedUpload: 413 too large, 422 damaged, cut off, or of several rates.
    """
    size = len(upload.data) * 2  # two bytes of a value become four
    if size > upload.limits.array_bytes:
        raise too_large(upload, "bytes", size, upload.limits.array_bytes, "Cut it into pieces.")
    with on_disk(upload, f".{upload.kind}") as path:
        read = edf.importer.read(Item("upload", (path,)), {})
    read.pop("recorded", None)
    return read


def read_table(upload: Upload) -> dict[str, Any]:
    """A table in the long form (``times``, ``variables``, ``values``) or in the wide one (``signal``).

    Of the scalars, ``sampling_rate`` stands in for a column of times, and ``variable_names`` says to which names
    ``variables`` points: those of a model have an order of their own.

    Raises:
        RejectedUpload: 413 too many columns, 422 no table, or of several samples.
    """
    first = upload.data.partition(b"\n")[0]
    columns = 1 + max(first.count(mark) for mark in (b",", b";", b"\t"))
    if columns > upload.limits.columns:
        raise too_large(upload, "columns", columns, upload.limits.columns, "Send fewer channels.")
    options = {}
    if "sampling_rate" in upload.scalars:
        options["sampling_rate"] = str(upload.scalars["sampling_rate"])
    names = upload.scalars.get("variable_names")
    if isinstance(names, list) and names:
        options["variables"] = ",".join(str(name) for name in names)
    with on_disk(upload, ".csv") as path:
        source = Source(path, options)
        items = list(series_table.importer.plan(source))
        if len(items) != 1:
            raise RejectedUpload(f"{upload.label}: holds {len(items)} samples. Send the rows of one.")
        attributes = series_table.importer.attributes(source) if series_table.importer.attributes else {}
        read = series_table.importer.read(items[0], options)
    return {**read, **(attributes if "variables" in read else {})}


def read_usual_arrays(upload: Upload) -> dict[str, Any]:
    """``signal``, ``sampling_rate`` and ``channels`` of an archive whose arrays have other usual names, such as ``fs``."""
    with on_disk(upload, ".npz") as path:
        read = npz.importer.read(Item("upload", (path,)), {})
    del read["member"]
    if read["signal"].nbytes > upload.limits.array_bytes:
        raise RejectedUpload(f"{upload.label}: becomes {read['signal'].nbytes} bytes. Cut it into pieces.", TOO_LARGE)
    return read
