"""Samples of any modality in HDF5 files: one file a sample, or one row of a file's data sets a sample.

``modality=NAME`` says what they are. Each of its fields comes from the data set that an option of its name names
(``image=/scans/t1``), or from the one of the field's own name at the top of the file; ``scalars=NAME:PLACE,…`` adds others.
A place is the path of a data set, or ``PATH@NAME`` for an attribute of a group or data set (``@NAME`` for one of the
file). Attributes of the file, or of the main data set, that are called like a scalar of the modality (``sampling_rate``,
``wavelength``) are taken without being named.

Arrays keep their type and the order of their axes. Data sets without axes and texts become scalars.

``rows=yes``: the first axis of every data set counts samples, with ids ``file/0``, ``file/1`` …; attributes, single values and
lists such as wavelengths hold for all of them. To count, the files are opened once before anything is read.

Sizes are checked before anything is read, against a limit and against what is really stored. Links, references, virtual and
external data sets and foreign filters are never followed; see :mod:`._hdf5`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField, Field, ScalarField, check_name
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _hdf5, _metadata, _modalities
from sensorium.catalog.importers._files import identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.modality import Modality
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer"]

_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf", ".he5"))
_MAX_VALUES = 1e9
#: numbers or texts of an attribute
_MAX_ATTRIBUTE = 10_000
#: enough to be asked which modality it is, and no more
_UNSURE = 0.6


@dataclass(frozen=True)
class _File:
    """An open file, and what is asked of it: ``row`` is None where the whole file is a sample."""

    path: Path
    file: Any
    limit: float
    row: int | None


def _matches(source: Source) -> float:
    sure = 1.0 if "modality" in source.options else _UNSURE
    return probe(source, _SUFFIXES, lambda path: sure * _hdf5.is_hdf5(path))


def _modality(source: Source) -> str:
    if "modality" not in source.options:
        raise unreadable(source.path, "HDF5 does not say which modality it is", "Say modality=NAME.")
    return modalities.get(source.options["modality"]).name


def _rows(options: Mapping[str, str]) -> bool:
    text = options.get("rows", "no")
    if text not in ("yes", "no"):
        raise InvalidSetting(f"rows must be yes or no; got {text!r}.")
    return text == "yes"


def _others(options: Mapping[str, str]) -> dict[str, str]:
    """The option ``scalars``: places of values that are no fields of the modality, by name."""
    pairs = [pair.partition(":") for pair in options.get("scalars", "").split(",") if pair.strip()]
    wrong = next((name for name, _, place in pairs if not place.strip()), None)
    if wrong is not None:
        raise InvalidSetting(f"scalars must be NAME:PLACE, parted by commas, such as label:/labels; got {wrong!r}.")
    return {check_name(name.strip(), "scalar"): place.strip() for name, _, place in pairs}


@once
def _known(source: Source) -> _metadata.Known:
    paths = visible(source, _SUFFIXES)
    taken = (*(field.name for field in modalities.get(_modality(source)).fields), *_others(source.options))
    return _metadata.of_files(source, paths, taken)


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    name_of = _modality(source)
    for path, name in identifiers(source, scalars).items():
        own = {**scalars[path], "modality": name_of}
        if not _rows(source.options):
            yield Item(name, (path,), own)
            continue
        for row in range(_count(path, modalities.get(name_of), source.options)):
            yield Item(f"{name}/{row}", (path,), {**own, "row": row})


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


def _count(path: Path, modality: Modality, options: Mapping[str, str]) -> int:
    """How many samples a file has whose rows are samples: all of its data sets must agree."""
    with _hdf5.opened(path) as file:
        opened = _File(path, file, number(options, "max_values", _MAX_VALUES), 0)
        lengths = {}
        fields = {field.name: field for field in modality.fields}
        for name, place in {**_places(opened, modality, options), **_others(options)}.items():
            if "@" not in place:
                data = _hdf5.checked(path, file, place, opened.limit, rows=True, texts=True)
                if not _is_common(data, fields.get(name)):
                    lengths[place] = int(data.shape[0])
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{place}: {length}" for place, length in lengths.items()) or "none"
            raise unreadable(
                path, f"its data sets differ in their numbers of rows ({told})", "Name others, or split it."
            )
    return next(iter(lengths.values()))


def _is_common(data: Any, field: Field | None) -> bool:
    """Whether a data set is one for all rows: a single value, or the one list of a field that is a list."""
    lists = isinstance(field, ScalarField) and pa.types.is_list(field.type)
    return not data.shape or (lists and len(data.shape) == 1)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    own = dict(item.scalars)
    modality, row = modalities.get(own.pop("modality")), own.pop("row", None)
    sample: dict[str, Any] = {}
    with _hdf5.opened(path) as file:
        opened = _File(path, file, number(options, "max_values", _MAX_VALUES), row)
        places = _places(opened, modality, options)
        main = next((places[name] for name in modality.arrays if name in places), "")
        for field in modality.fields:
            if field.name in places:
                sample[field.name] = _value(opened, places[field.name], field, options)
            elif not isinstance(field, ArrayField):
                sample[field.name] = _loose(opened, main, field.name)
        for name, place in _others(options).items():
            sample[name] = _value(opened, place, None, options)
    return {**own, **{name: value for name, value in sample.items() if value is not None}}


def _places(opened: _File, modality: Modality, options: Mapping[str, str]) -> dict[str, str]:
    """Where each field of the modality is: by option, or by its own name."""
    there = {name for name, _ in _hdf5.data_sets(opened.file, deep=False)}
    fields = [field.name for field in modality.fields]
    places = {name: options.get(name) or (name if name in there else "") for name in fields}
    missing = [name for name, field in modality.arrays.items() if field.required and not places[name]]
    if missing:
        told = ", ".join(f"/{name} {data.shape}" for name, data in _hdf5.data_sets(opened.file, deep=True)) or "none"
        problem = f"has no data set {missing[0]!r} (there are: {told:.500})"
        raise unreadable(opened.path, problem, f"Say {missing[0]}=PATH.")
    return {name: place for name, place in places.items() if place}


def _value(opened: _File, place: str, field: Field | None, options: Mapping[str, str]) -> Any:
    """What is at a place: an array for an array field, else a number, a text, or a list."""
    where, mark, name = place.rpartition("@")
    if mark:
        return _attribute(opened, where, name)
    whole = opened.row is None
    texts = not isinstance(field, ArrayField)
    data = _hdf5.checked(opened.path, opened.file, place, opened.limit, rows=not whole, texts=texts)
    row = None if whole or _is_common(data, field) else opened.row
    if row is not None and row >= data.shape[0]:
        raise unreadable(opened.path, f"{place!r} has shape {data.shape}, without row {row}", "Import it anew.")
    if not isinstance(field, ArrayField):
        return _hdf5.listed(data, row)
    array = _hdf5.stored(data, row)
    return finite(opened.path, array, options) if field.finite else array


def _loose(opened: _File, main: str, name: str) -> Any:
    """An attribute of the file or of its main data set; None where neither has one of the name."""
    for where in ("", main):
        if "@" not in where and name in (opened.file[where] if where else opened.file).attrs:
            return _attribute(opened, where, name)
    return None


def _attribute(opened: _File, where: str, name: str) -> Any:
    owner = _hdf5.there(opened.path, opened.file, where)
    if name not in owner.attrs:
        raise unreadable(opened.path, f"{where or '/'} has no attribute {name!r}", "Mend the option that names it.")
    header = owner.attrs.get_id(name)
    size = int(np.prod(header.shape or (1,)))
    if size > _MAX_ATTRIBUTE or not _hdf5.is_plain(header.dtype):
        problem = f"attribute {name!r} has {size} values of type {header.dtype}"
        raise unreadable(opened.path, problem, "Name another: references and objects are never followed.")
    return _hdf5.plain(owner.attrs[name])


importer = Importer(
    name="hdf5",
    title="samples of any modality in HDF5 files (.h5, .hdf5)",
    modality="image",
    modality_of=_modality,
    matches=_matches,
    plans_guarded=True,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "modality": "of the samples; has to be given",
        "rows": "yes: the first axis of the data sets counts samples (default: a file is a sample)",
        "scalars": "further values as NAME:PLACE, parted by commas, such as label:/labels,rate:/eeg@fs (default: none)",
        "max_values": f"refuse data sets, or rows, that claim more (default {_MAX_VALUES:.0f})",
        **NAN_OPTION,
        **_modalities.field_options("place of the field {name} (default: the data set of that name)", scalars=True),
        **_metadata.FILE_OPTIONS,
    },
)
