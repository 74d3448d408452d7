"""Fragments: immutable Zarr v3 groups that hold the arrays of a batch of samples.

A fragment is written once, by one writer, under a name that nobody else will use; it becomes part of a data set when a
Delta commit names it, and not before. One field of a batch lies in one or more arrays of the group:

* **stacked** [N, *shape]: samples of one shape and dtype, one per row, each in chunks of its own;
* **flat** [elements]: samples of many shapes, laid end to end in C order, never padded. A row's ``start`` and ``stop`` say
  where its elements are, its ``shape`` how to fold them.

Everything is plain sharded Zarr v3, readable by any Zarr library; :mod:`.shards` writes and reads it.
"""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from sensorium.catalog.fields import REFERENCE_TYPE, ArrayField
from sensorium.catalog.shards import (
    Compressor,
    Layout,
    ShardedArray,
    forget_files,
    little,
    sync_folder,
    write_array,
    write_group,
)
from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

__all__ = [
    "FOLDER", "Reference", "check_content", "check_extent", "checksum", "forget", "opened", "read", "read_many", "read_part",
    "read_present", "write", "write_stacks",
]  # fmt: skip

FOLDER = "fragments"

#: a row of ``fields.REFERENCE_TYPE``
Reference = dict[str, Any]

_SHARD_BYTES = 32 << 20
_CHUNK_BYTES = 4 << 20
#: what is not compressed can be read in parts whatever its chunks are
_PLAIN_CHUNK_BYTES = 32 << 20
_FLAT_CHUNK_BYTES = 128 << 10
#: samples of differing shape get an array each from this size on: there, chunks along their own axes pay
_LARGE_SAMPLE_BYTES = 8 << 20
#: below this many of one shape in a mixed batch, an array of their own would be mostly metadata
_FEW = 8
#: two wanted ranges of an array with a smaller gap than this are read as one
_GAP_BYTES = 64 << 10


def checksum(array: np.ndarray) -> str:
    """XXH3-128 of the array's C-order, little-endian bytes, in hexadecimal.

    It proves that payload is what was committed, and is wide enough to say that two arrays are the same.
    """
    if not (array.flags.c_contiguous and little(array.dtype)):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return xxhash.xxh3_128_hexdigest(array.data if array.ndim and array.size else array.tobytes())


def write(
    storage: Storage,
    batch: Sequence[Mapping[str, np.ndarray]],
    fields: Mapping[str, ArrayField],
    *,
    durable: bool = False,
) -> list[dict[str, Reference]]:
    """Write the arrays of a batch of samples as one new fragment.

    Args:
        storage: the data set's folder.
        batch: per sample, its arrays by field name; a sample may lack some.
        fields: the declarations of all fields in the batch.
        durable: return only when the payload would be there after a loss of power (local storage; stores are anyway).

    Returns:
        Per sample, its references by field name.
    """
    references: list[dict[str, Reference]] = [{} for _ in batch]
    if not any(batch):
        return references
    name = _new_name()
    root = storage.at_path(FOLDER, name)
    with storage.translated(FOLDER, name):
        folders = [root]
        for field_name, field in fields.items():
            members = [index for index, sample in enumerate(batch) if field_name in sample]
            arrays = {index: batch[index][field_name] for index in members}
            for part, (stacked, indices) in enumerate(_parts(arrays)):
                array_name = field_name if part == 0 else f"{field_name}.{part}"
                chosen = [arrays[index] for index in indices]
                folders.append(f"{root}/{array_name}")
                storage.make_folder(folders[-1])
                if stacked:
                    layout = _rows_layout(field, (len(chosen), *chosen[0].shape), chosen[0].dtype)
                    pieces = [array[np.newaxis] for array in chosen]
                    ends = np.arange(1, len(chosen) + 1)
                    starts = ends - 1
                else:
                    layout, pieces = _flat(field, chosen)
                    sizes = np.array([array.size for array in chosen])
                    ends = np.cumsum(sizes)
                    starts = ends - sizes
                write_array(storage, folders[-1], layout, pieces, durable=durable)
                for index, start, stop in zip(indices, starts.tolist(), ends.tolist(), strict=True):
                    references[index][field_name] = _reference(name, array_name, start, stop, arrays[index])
        _finish(storage, folders, durable=durable)
    return references


def write_stacks(
    storage: Storage, stacks: Mapping[str, np.ndarray], fields: Mapping[str, ArrayField], *, durable: bool = False
) -> dict[str, pa.StructArray]:
    """Write samples that are stacked already as one new fragment.

    Args:
        storage: the data set's folder.
        stacks: by field name, [n, ...] of as many samples.
        fields: the declarations of all fields in ``stacks``.
        durable: as of :func:`write`.

    Returns:
        By field name, the references of the n samples.
    """
    name = _new_name()
    root = storage.at_path(FOLDER, name)
    columns: dict[str, pa.StructArray] = {}
    with storage.translated(FOLDER, name):
        folders = [root]
        for field_name, stack in stacks.items():
            folders.append(f"{root}/{field_name}")
            storage.make_folder(folders[-1])
            layout = _rows_layout(fields[field_name], stack.shape, stack.dtype)
            length = layout.shard[0]
            pieces = [stack[begin : begin + length] for begin in range(0, len(stack), length)]
            write_array(storage, folders[-1], layout, pieces, durable=durable)
            columns[field_name] = _reference_column(name, field_name, stack)
        _finish(storage, folders, durable=durable)
    return columns


def _new_name() -> str:
    """Of a fragment: when it was begun, and what nobody else has."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex}"


def _finish(storage: Storage, folders: Sequence[str], *, durable: bool) -> None:
    """Make a fragment of its arrays; ``folders``: its own, and theirs."""
    write_group(storage, folders[0], {}, durable=durable)
    if durable and storage.local:
        for folder in (*reversed(folders), storage.at_path(FOLDER), storage.root):
            sync_folder(folder)


def _reference_column(fragment: str, name: str, stack: np.ndarray) -> pa.StructArray:
    """References to the rows of a stacked array."""
    count = len(stack)
    starts = np.arange(count, dtype=np.int64)
    shape = np.tile(np.array(stack.shape[1:], np.int64), count)
    offsets = np.arange(count + 1, dtype=np.int32) * (stack.ndim - 1)
    columns: dict[str, Any] = {
        "fragment": pa.repeat(fragment, count),
        "array": pa.repeat(name, count),
        "start": pa.array(starts),
        "stop": pa.array(starts + 1),
        "shape": pa.ListArray.from_arrays(pa.array(offsets), pa.array(shape)),
        "dtype": pa.repeat(_name(stack.dtype), count),
        "nbytes": pa.repeat(pa.scalar(stack[0].nbytes, pa.int64()), count),
        "checksum": pa.array([checksum(row) for row in stack], pa.string()),
    }
    return pa.StructArray.from_arrays([columns[field.name] for field in REFERENCE_TYPE], fields=list(REFERENCE_TYPE))


def read(storage: Storage, reference: Reference) -> np.ndarray:
    """The array that ``reference`` points to, in memory of its own; see :func:`read_many`."""
    fragment, name = reference["fragment"], reference["array"]
    try:
        source = opened(storage, fragment, name)
        _check_reach(storage, source, reference)
        if source.ndim == len(reference["shape"]) + 1:
            array = source.row(reference["start"])
        else:
            (array,) = _read_flat(source, [reference])
    except Exception:  # entered only then: a sample may take less time than a context
        with storage.translated(FOLDER, fragment, name):
            raise
    check_content(storage, reference, array)
    return array


def read_part(storage: Storage, reference: Reference, key: Any) -> np.ndarray:
    """``array[key]`` of a sample's array, of which only the chunks needed are read; checksums are not compared."""
    source = opened(storage, reference["fragment"], reference["array"])
    box = _box(key, reference["shape"])
    if box is None:  # by lists, masks, new axes: NumPy knows
        return np.asarray(read(storage, reference)[key])
    begin, end, rest = box
    with storage.translated(FOLDER, reference["fragment"], reference["array"]):
        if source.ndim == len(reference["shape"]) + 1:
            _check_reach(storage, source, reference)
            row = reference["start"]
            return np.asarray(source.box((row, *begin), (row + 1, *end))[0][rest])
        if len(reference["shape"]) == 1:  # a stretch of a sound, say, out of a flat array
            _check_reach(storage, source, reference)
            start = reference["start"]
            return np.asarray(source.box((start + begin[0],), (start + end[0],))[rest])
    return np.asarray(read(storage, reference)[key])


def _box(key: Any, shape: Sequence[int]) -> tuple[list[int], list[int], tuple[Any, ...]] | None:
    """The smallest box that has ``array[key]`` in it, and the key into that box; None for keys that are not ranges."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(one is Ellipsis for one in keys):
        at = next(index for index, one in enumerate(keys) if one is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    keys += [slice(None)] * (len(shape) - len(keys))
    if len(keys) != len(shape) or any(
        isinstance(one, bool) or not isinstance(one, int | np.integer | slice) for one in keys
    ):
        return None
    begin: list[int] = []
    end: list[int] = []
    rest: list[int | slice] = []
    for one, size in zip(keys, shape, strict=True):
        if not isinstance(one, slice):
            at = int(one) + size * (one < 0)
            if not 0 <= at < size:
                raise IndexError(f"index {one} is out of an axis of length {size}")
            begin.append(at)
            end.append(at + 1)
            rest.append(0)
            continue
        wanted = range(*one.indices(size))
        low, high = (min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1) if wanted else (0, 0)
        begin.append(low)
        end.append(high)
        # going down to the first place has no end that a slice could name but None
        last = None if wanted.step < 0 and wanted and wanted[-1] == low else high - low
        rest.append(slice(wanted[0] - low, last, wanted.step) if wanted else slice(0, 0))
    return begin, end, tuple(rest)


def read_many(storage: Storage, references: Sequence[Reference], *, check: bool = True) -> list[np.ndarray]:
    """The arrays that ``references`` point to, in that order; neighbours in a fragment are read together.

    Checksums are compared unless ``check`` is false.

    Raises:
        CorruptData: a fragment is missing, shorter than the table says, or not what was committed.
    """
    found: list[np.ndarray | None] = [None] * len(references)
    by_array: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, reference in enumerate(references):
        by_array[reference["fragment"], reference["array"]].append(position)
    for (fragment, name), positions in by_array.items():
        wanted = [references[position] for position in positions]
        with storage.translated(FOLDER, fragment, name):
            source = opened(storage, fragment, name)
            for reference in wanted:
                _check_reach(storage, source, reference)
            arrays = _read_together(source, wanted)
        for position, reference, array in zip(positions, wanted, arrays, strict=True):
            if check:
                check_content(storage, reference, array)
            found[position] = array
    return [array for array in found if array is not None]


def check_content(storage: Storage, reference: Reference, array: np.ndarray) -> None:
    """Compare the checksum of what was read.

    Raises:
        CorruptData: it is not what was committed.
    """
    if checksum(array) != reference["checksum"]:
        forget()
        raise CorruptData(
            f"fragment {reference['fragment']!r}, array {reference['array']!r}, entry {reference['start']} in {storage.url}: "
            "the bytes are not those that were committed. Run verify to see what is damaged, and restore the fragment from a "
            "copy."
        )


def _read_together(source: ShardedArray, references: Sequence[Reference]) -> list[np.ndarray]:
    """The arrays of references into one array of a fragment."""
    if source.ndim != len(references[0]["shape"]) + 1:
        return _read_flat(source, references)
    arrays = [np.empty(source.shape[1:], source.dtype) for _ in references]
    source.rows([reference["start"] for reference in references], arrays)
    return arrays


def _read_flat(source: ShardedArray, references: Sequence[Reference]) -> list[np.ndarray]:
    found: list[np.ndarray] = [np.empty(0)] * len(references)
    order = sorted(range(len(references)), key=lambda index: references[index]["start"])
    for run in _runs([references[index] for index in order], source.dtype.itemsize):
        low = references[order[run.start]]["start"]
        high = max(references[index]["stop"] for index in order[run])
        block = source.box((low,), (high,))
        for index in order[run]:
            reference = references[index]
            piece = block[reference["start"] - low : reference["stop"] - low].reshape(reference["shape"])
            # a view would keep the whole run in memory
            found[index] = piece if run.stop - run.start == 1 else piece.copy()
    return found


def read_present(storage: Storage, references: Sequence[Reference | None]) -> list[np.ndarray | None]:
    """As :func:`read_many`, with None for samples that do not have the field."""
    arrays = iter(read_many(storage, [reference for reference in references if reference is not None]))
    return [None if reference is None else next(arrays) for reference in references]


def check_extent(storage: Storage, reference: Reference) -> None:
    """Check, from metadata alone, that the array of ``reference`` is there and reaches far enough.

    Raises:
        CorruptData: it does not.
    """
    _check_reach(storage, opened(storage, reference["fragment"], reference["array"]), reference)


def _check_reach(storage: Storage, source: ShardedArray, reference: Reference) -> None:
    shape = reference["shape"]
    stacked = source.ndim == len(shape) + 1 and source.shape[1:] == tuple(shape)
    flat = source.ndim == 1 and reference["stop"] - reference["start"] == math.prod(shape)
    if source.dtype_name != reference["dtype"] or source.shape[0] < reference["stop"] or not (stacked or flat):
        raise CorruptData(
            f"fragment {reference['fragment']!r}, array {reference['array']!r} in {storage.url} is {source.dtype.name} "
            f"{list(source.shape)}; the table points to {reference['start']}–{reference['stop']} of {reference['dtype']}. "
            "Run verify, and restore the fragment from a copy."
        )


def _parts(arrays: Mapping[int, np.ndarray]) -> list[tuple[bool, list[int]]]:
    """Which samples share an array: (stacked?, sample indices), stable in the order of samples."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for index, array in arrays.items():
        groups[array.dtype.str, array.shape].append(index)
    parts: list[tuple[bool, list[int]]] = []
    flat: dict[str, list[int]] = defaultdict(list)
    for (dtype, _), indices in groups.items():
        if len(groups) == 1 or len(indices) >= _FEW or arrays[indices[0]].nbytes >= _LARGE_SAMPLE_BYTES:
            parts.append((True, indices))
        else:
            flat[dtype] += indices
    parts += [(False, sorted(indices)) for indices in flat.values()]
    return parts


def _rows_layout(field: ArrayField, shape: Sequence[int], dtype: np.dtype[Any]) -> Layout:
    """Samples of one shape as rows of an array of ``shape``."""
    sample = shape[1:]
    chunk = _chunk(field, sample, dtype.itemsize)
    padded = tuple(math.ceil(max(1, size) / part) * part for size, part in zip(sample, chunk, strict=True))
    limit = field.shard_bytes or _SHARD_BYTES
    per_shard = max(1, min(shape[0], limit // (math.prod(padded) * dtype.itemsize)))
    return Layout(
        shape=tuple(shape),
        dtype=dtype,
        shard=(per_shard, *padded),
        chunk=(1, *chunk),
        compressor=_compressor(field.codec, dtype),
        axes=("sample", *field.axes(len(sample))),
        attributes=_attributes(field, "stacked"),
    )


def _flat(field: ArrayField, arrays: Sequence[np.ndarray]) -> tuple[Layout, list[np.ndarray]]:
    """Samples of many shapes end to end."""
    dtype = arrays[0].dtype
    total = sum(array.size for array in arrays)
    chunk = max(1, min(total, _FLAT_CHUNK_BYTES // dtype.itemsize))
    limit = field.shard_bytes or _SHARD_BYTES
    shard = chunk * max(1, min(math.ceil(total / chunk), limit // (chunk * dtype.itemsize)))
    layout = Layout(
        shape=(total,),
        dtype=dtype,
        shard=(shard,),
        chunk=(chunk,),
        compressor=_compressor(field.codec, dtype),
        axes=("element",),
        attributes=_attributes(field, "flat"),
    )
    elements = np.concatenate([array.reshape(-1) for array in arrays])
    return layout, [elements[begin : begin + shard] for begin in range(0, total, shard)]


def _chunk(field: ArrayField, shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """A sample's chunk: as the field says, else the whole sample, or its longest axes halved until it can be read in parts."""
    if field.chunk:
        sizes = zip(field.axes(len(shape)), shape, strict=True)
        return tuple(max(1, min(field.chunk.get(axis, size), size)) for axis, size in sizes)
    chunk = [max(1, size) for size in shape]
    limit = _PLAIN_CHUNK_BYTES if field.codec == "none" else _CHUNK_BYTES
    while math.prod(chunk) * itemsize > limit:
        longest = chunk.index(max(chunk))
        chunk[longest] = math.ceil(chunk[longest] / 2)
    return tuple(chunk)


def _compressor(codec: str, dtype: np.dtype[Any]) -> Compressor | None:
    if codec == "none":
        return None
    if codec == "zstd":
        return Compressor("zstd", level=1)
    return Compressor("blosc", level=5, inner="lz4", shuffle="bitshuffle", typesize=dtype.itemsize)


def _attributes(field: ArrayField, layout: str) -> dict[str, Any]:
    # complete: every chunk is there, so that one that is not is damage
    return {"layout": layout, "complete": True, **({"units": field.unit} if field.unit else {})}


def _reference(fragment: str, name: str, start: int, stop: int, array: np.ndarray) -> Reference:
    return {
        "fragment": fragment,
        "array": name,
        "start": start,
        "stop": stop,
        "shape": list(array.shape),
        "dtype": _name(array.dtype),
        "nbytes": array.nbytes,
        "checksum": checksum(array),
    }


def _runs(references: Sequence[Reference], row_bytes: int) -> list[slice]:
    """Cut references, sorted by start, where the gap to the next is too wide to be read along."""
    runs: list[slice] = []
    begin, reach = 0, references[0]["stop"]
    for index, reference in enumerate(references[1:], start=1):
        if (reference["start"] - reach) * row_bytes > _GAP_BYTES:
            runs.append(slice(begin, index))
            begin = index
        reach = max(reach, reference["stop"])
    runs.append(slice(begin, len(references)))
    return runs


@functools.lru_cache(maxsize=64)
def _name(dtype: np.dtype[Any]) -> str:
    """NumPy's name, which it takes a while to find."""
    return dtype.name


@functools.lru_cache(maxsize=1024)
def opened(storage: Storage, fragment: str, name: str) -> ShardedArray:
    """An array of a fragment.

    Raises:
        CorruptData: it is not there, or its metadata make no sense.
    """
    try:
        with storage.translated(FOLDER, fragment, name):
            return ShardedArray(storage, storage.at_path(FOLDER, fragment, name))
    except FileNotFoundError as error:
        raise CorruptData(
            f"fragment {fragment!r}, array {name!r} is not in {storage.url}. "
            "It was removed behind the catalog's back: run verify, and restore it from a copy."
        ) from error


def forget() -> None:
    """Look everything up anew: what was damaged may have been restored since."""
    opened.cache_clear()
    forget_files()
