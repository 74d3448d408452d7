"""Samples of any modality in NumPy files: one ``.npz`` or ``.npy`` a sample, or a ``.npy`` whose rows are samples.

An array of an archive becomes the field of its own name, or of the name that an option gives it: ``before=t1`` takes the
array ``t1`` for the field ``before``. A bare ``.npy`` is the modality's main array. Arrays without axes, and texts, become
scalars; lists where they have one axis and are no array field of the modality. Which modality it is says the option
``modality``, or the names in the archives where they are those of one modality only.

``channels_first=yes``: arrays [C, H, W] of fields whose last axis counts channels or bands become [H, W, C].

``rows=yes``: the first axis of every array counts samples, with ids ``file/0``, ``file/1`` … ``rows=together``: it counts the
same samples in all ``.npy`` files of a folder, such as ``X.npy`` and ``y.npy``; each becomes the field of its name, or that
an option gives it, and ids are ``0``, ``1`` … below the folder's place.

Nothing is ever unpickled, and sizes are checked before anything is inflated; see :mod:`.npz`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _embedded, _metadata, _modalities, npz
from sensorium.catalog.importers._files import identifiers, number, once, places, probe, unreadable, visible
from sensorium.catalog.modality import Modality
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".npz", ".npy"))
_OWN = ("modality", "rows", "channels_first", "max_bytes", "label", "metadata", "key", "pattern")
_SAVE = "Save it anew with numpy.save or numpy.savez_compressed."
_MAGIC = b"\x93NUMPY"


def _modality(source: Source) -> str:
    if "modality" in source.options:
        return modalities.get(source.options["modality"]).name
    first = next((path for path in visible(source, _SUFFIXES) if suffix(path) == ".npz"), None)
    names = {_renamed(source.options).get(name, name) for name in npz.members(first)} if first is not None else set()
    plain = _modalities.guessed(names)
    if len(plain) != 1:
        says = f"they hold {', '.join(sorted(names))}" if names else "bare arrays do not say"
        raise unreadable(source.path, f"which modality is it? ({says})", "Say modality=NAME.")
    return plain[0]


def _renamed(options: Mapping[str, str]) -> dict[str, str]:
    """Array -> field, as options say."""
    return {array: field for field, array in options.items() if field not in _OWN}


def _matches(source: Source) -> float:
    if "modality" in source.options:
        return probe(source, _SUFFIXES, lambda path: float(_is_array_file(path)))
    return probe(source, frozenset((".npz",)), _names_a_modality)


def _names_a_modality(path: Path) -> float:
    return 0.8 * bool(_modalities.guessed(npz.members(path)))


def _is_array_file(path: Path) -> bool:
    if suffix(path) == ".npz":
        return bool(npz.members(path))
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


@once
def _known(source: Source) -> _metadata.Known:
    reserved = tuple(modalities.get(_modality(source)).arrays)
    return _metadata.of_files(source, visible(source, _SUFFIXES), reserved)


def _plan(source: Source) -> Iterator[Item]:
    main = _modality(source)
    scalars = _known(source).rows
    mode = _choice(source.options, "rows", ("no", "yes", "together"))
    if mode == "together":
        yield from _together(source, main, scalars)
        return
    for path, name in identifiers(source, scalars).items():
        if mode == "no":
            yield Item(name, (path,), scalars[path], {"modality": main})
            continue
        for row in range(_row_count(path)):
            yield Item(f"{name}/{row}", (path,), scalars[path], {"modality": main, "row": row})


def _together(source: Source, main: str, scalars: Mapping[Path, Mapping[str, Any]]) -> Iterator[Item]:
    """A sample for each row of the files of a folder, which all have as many."""
    for folder, found in itertools.groupby(sorted(scalars), key=lambda path: path.parent):
        paths = tuple(found)
        counts = {path.name: _row_count(path) for path in paths}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise unreadable(
                folder, f"its files differ in their numbers of rows ({told})", "Take the others out of it."
            )
        above = places(source, paths)[paths[0]].rpartition("/")[0]
        common = {name: value for name, value in scalars[paths[0]].items() if name != "source"}
        for row in range(counts[paths[0].name]):
            where = {"modality": main, "row": row, "together": "yes"}
            yield Item(f"{above}/{row}".lstrip("/"), paths, {**common, "source": above or folder.name}, where)


def _choice(options: Mapping[str, str], key: str, known: tuple[str, ...] = ("no", "yes")) -> str:
    text = options.get(key, known[0])
    if text not in known:
        raise InvalidSetting(f"{key} must be {', '.join(known[1:])} or {known[0]}; got {text!r}.")
    return text


def _row_count(path: Path) -> int:
    if suffix(path) == ".npz":
        raise unreadable(path, "rows=yes is for .npy files", "Save each array by itself, or a sample a file.")
    shape, _, _ = _header(path)
    return shape[0] if shape else 0


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and place of the values of a ``.npy`` file, as far as the file can have them."""
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            place = stream.tell()
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, f"is no NumPy file ({error})", _SAVE) from error
    if dtype.hasobject:
        raise unreadable(path, "holds Python objects, which are never unpickled", "Save plain arrays.")
    claimed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - place
    if claimed != there:
        raise unreadable(path, f"its header claims {claimed} bytes {shape} of {dtype}, {there} are there", _SAVE)
    return shape, dtype, place


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    limit = number(options, "max_bytes", npz.MAX_BYTES)
    own = dict(item.scalars)
    modality, row = modalities.get(item.place["modality"]), item.place.get("row")
    turned = _choice(options, "channels_first") == "yes"
    if "together" in item.place:
        return {**own, **_row(item.paths, modality, item.place["row"], options)}
    if suffix(path) == ".npy":
        main = _main(path, modality)
        array = _bare(path, row, limit)
        return {**own, main: _channels_last(modality, main, array) if turned else array}
    names = npz.members(path)
    renamed = _renamed(options)
    missing = sorted(renamed.keys() - set(names))
    if missing:
        raise unreadable(path, f"has no array {missing[0]!r} (there are: {', '.join(names)})", "Mend the option.")
    found = npz.arrays(path, names, limit)
    sample: dict[str, Any] = {}
    for name, array in zip(names, found, strict=True):
        field = renamed.get(name, name)
        if field not in own:  # a table beside the file knows better
            array = _channels_last(modality, field, array) if turned else array
            sample[field] = _value(path, name, array, is_array=field in modality.arrays)
    return {**own, **sample}


def _row(paths: tuple[Path, ...], modality: Modality, row: int, options: Mapping[str, str]) -> dict[str, Any]:
    """What the files ``paths`` have for one sample, by their names."""
    renamed = _renamed(options)
    turned = _choice(options, "channels_first") == "yes"
    sample: dict[str, Any] = {}
    for path in paths:
        name = renamed.get(path.stem, path.stem)
        array = _bare(path, row, number(options, "max_bytes", npz.MAX_BYTES))
        array = _channels_last(modality, name, array) if turned else array
        sample[_embedded.field_name(name)] = _value(path, path.stem, array, is_array=name in modality.arrays)
    return sample


def _channels_last(modality: Modality, name: str, array: Array) -> Array:
    field = modality.arrays.get(name)
    wanted = any(len(layout) == array.ndim and layout[-1] in ("C", "L") for layout in field.layouts) if field else False
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)) if wanted else array


def _main(path: Path, modality: Modality) -> str:
    """The field that a bare array is."""
    required = [name for name, field in modality.arrays.items() if field.required] or list(modality.arrays)
    if not required or len([name for name in modality.arrays if modality.arrays[name].required]) > 1:
        raise unreadable(path, f"one array is no sample of modality {modality.name}", "Save it with numpy.savez.")
    return required[0]


def _bare(path: Path, row: int | None, limit: float) -> Array:
    if row is not None and path.is_file():
        about = path.stat()
        rows = _mapped(path, about.st_mtime_ns, about.st_size)
        _check_numbers(path, rows.shape[1:], rows.dtype, limit)
        return np.array(rows[row])
    shape, dtype, _ = _header(path)
    _check_numbers(path, shape, dtype, limit)
    return np.ascontiguousarray(np.load(path, allow_pickle=False))


def _check_numbers(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], limit: float) -> None:
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise unreadable(
            path, f"has {size} bytes, more than the limit of {limit:g}", f"If it is real, say max_bytes={size}."
        )
    if dtype.kind not in "biufc":
        raise unreadable(path, f"holds values of type {dtype}", "Save numbers.")


@functools.lru_cache(maxsize=8)
def _mapped(path: Path, _changed: int, _size: int) -> Array:
    """A file of rows, kept open while they are read one by one; when it was written tells it from a newer one."""
    _header(path)
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _value(path: Path, name: str, array: Array, *, is_array: bool) -> Any:
    """An array as the value of a field: an array, a scalar, or a list of texts or numbers."""
    if array.dtype.kind in "US":
        texts = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        return texts.tolist()
    if array.dtype.kind not in "biufc":
        raise unreadable(path, f"array {name!r} holds values of type {array.dtype}", "Save numbers or texts.")
    if array.ndim == 0:
        return array.item()
    scalar_lists = {"wavelength", "spacing", "channels", "variable_names"}
    return array.tolist() if not is_array and name in scalar_lists else np.ascontiguousarray(array)


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


importer = Importer(
    name="arrays",
    title="samples of any modality in NumPy files (.npz, .npy)",
    modality="image",
    modality_of=_modality,
    guarded=False,
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "modality": "of the samples (default: the one whose fields the archives name)",
        "rows": "yes: the first axis of a .npy file counts samples; together: that of all .npy files of a folder counts the "
        "same samples (default: a file is a sample)",
        "channels_first": "yes: arrays [C, H, W] become [H, W, C] (default: they are that already)",
        "max_bytes": f"refuse files whose arrays are larger together (default {npz.MAX_BYTES:.0f})",
        **_modalities.field_options("array that becomes the field {name} (default: the one of that name)"),
        **_metadata.FILE_OPTIONS,
    },
)
