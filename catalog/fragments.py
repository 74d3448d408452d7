"""Fragments: immutable Zarr v3 groups that hold the arrays of a batch of samples.

A fragment is written once, by one writer, under a name that nobody else will use; it becomes part of a data set when a
Delta commit names it, and not before. One field of a batch lies in one or more arrays of the group:

* **stacked** [N, *shape]: samples of one shape and dtype, one per row, each in chunks of its own;
* **flat** [elements]: samples of many shapes, laid end to end in C order, never padded. A row's ``start`` and ``stop`` say
  where its elements are, its ``shape`` how to fold them.

Everything is plain sharded Zarr v3, readable by any Zarr library.
"""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from sensorium.catalog.fields import ArrayField
from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    import zarr

__all__ = ["FOLDER", "Reference", "check_extent", "checksum", "read", "read_many", "read_part", "read_present", "write"]

FOLDER = "fragments"

#: a row of ``fields.REFERENCE_TYPE``
Reference = dict[str, Any]

_SHARD_BYTES = 32 << 20
_CHUNK_BYTES = 4 << 20
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
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return xxhash.xxh3_128_hexdigest(plain.reshape(-1).view(np.uint8).data)


def write(
    storage: Storage, batch: Sequence[Mapping[str, np.ndarray]], fields: Mapping[str, ArrayField]
) -> list[dict[str, Reference]]:
    """Write the arrays of a batch of samples as one new fragment.

    Args:
        storage: the data set's folder.
        batch: per sample, its arrays by field name; a sample may lack some.
        fields: the declarations of all fields in the batch.

    Returns:
        Per sample, its references by field name.
    """
    references: list[dict[str, Reference]] = [{} for _ in batch]
    if not any(batch):
        return references
    import zarr

    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex}"
    with storage.translated(FOLDER, name):
        group = zarr.open_group(storage.zarr_store(FOLDER, name), mode="w", zarr_format=3)
        for field_name, field in fields.items():
            members = [index for index, sample in enumerate(batch) if field_name in sample]
            arrays = {index: batch[index][field_name] for index in members}
            for part, (stacked, indices) in enumerate(_parts(arrays)):
                array_name = field_name if part == 0 else f"{field_name}.{part}"
                chosen = [arrays[index] for index in indices]
                starts = (
                    _write_stacked(group, array_name, field, chosen)
                    if stacked
                    else _write_flat(group, array_name, field, chosen)
                )
                for index, (start, stop) in zip(indices, starts, strict=True):
                    references[index][field_name] = _reference(name, array_name, start, stop, arrays[index])
    return references


def read(storage: Storage, reference: Reference) -> np.ndarray:
    """The array that ``reference`` points to, in memory of its own; see :func:`read_many`."""
    return read_many(storage, [reference])[0]


def read_part(storage: Storage, reference: Reference, key: Any) -> np.ndarray:
    """``array[key]`` of a sample's array, of which only the chunks needed are read where it is stacked."""
    source = _open(storage, reference["fragment"], reference["array"])
    if source.ndim == 1 and len(reference["shape"]) == 1 and isinstance(key, slice):
        start, stop, step = key.indices(reference["shape"][0])
        if step == 1:  # a stretch of a sound, say, out of a flat array
            return np.asarray(source[reference["start"] + start : reference["start"] + max(start, stop)])
    if source.ndim != len(reference["shape"]) + 1:
        return np.asarray(read(storage, reference)[key])
    keys = key if isinstance(key, tuple) else (key,)
    return np.asarray(source[(reference["start"], *keys)])


def read_many(storage: Storage, references: Sequence[Reference], *, check: bool = True) -> list[np.ndarray]:
    """The arrays that ``references`` point to, in that order; neighbours in a fragment are read together.

    Checksums are compared unless ``check`` is false: Zarr reads a shard that is gone, or empty, as zeros.

    Raises:
        CorruptData: a fragment is missing, shorter than the table says, or not what was committed.
    """
    found: list[np.ndarray | None] = [None] * len(references)
    by_array: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, reference in enumerate(references):
        by_array[reference["fragment"], reference["array"]].append(position)
    for (fragment, name), positions in by_array.items():
        source = _open(storage, fragment, name)
        stacked = source.ndim == len(references[positions[0]]["shape"]) + 1
        positions.sort(key=lambda position: references[position]["start"])
        row_bytes = math.prod(source.shape[1:]) * source.dtype.itemsize
        for run in _runs([references[position] for position in positions], row_bytes):
            low, high = (
                references[positions[run.start]]["start"],
                max(references[position]["stop"] for position in positions[run]),
            )
            with storage.translated(FOLDER, fragment, name):
                block = np.asarray(source[low:high])
            if len(block) != high - low:
                raise CorruptData(
                    f"fragment {fragment!r}, array {name!r} in {storage.url}: holds {source.shape[0]} entries, "
                    f"the table points to {high}. Run verify, and restore the fragment from a copy."
                )
            alone = run.stop - run.start == 1
            for position in positions[run]:
                reference = references[position]
                piece = block[reference["start"] - low : reference["stop"] - low]
                shaped = piece[0] if stacked else piece.reshape(reference["shape"])
                if check and checksum(shaped) != reference["checksum"]:
                    raise CorruptData(
                        f"fragment {fragment!r}, array {name!r}, entry {reference['start']} in {storage.url}: the bytes are not "
                        "those that were committed. Run verify to see what is damaged, and restore the fragment from a copy."
                    )
                found[position] = shaped if alone else shaped.copy()  # a view would keep the whole run in memory
    return [array for array in found if array is not None]


def read_present(storage: Storage, references: Sequence[Reference | None]) -> list[np.ndarray | None]:
    """As :func:`read_many`, with None for samples that do not have the field."""
    arrays = iter(read_many(storage, [reference for reference in references if reference is not None]))
    return [None if reference is None else next(arrays) for reference in references]


def check_extent(storage: Storage, reference: Reference) -> None:
    """Check, from metadata alone, that the array of ``reference`` is there and reaches far enough.

    Raises:
        CorruptData: it does not.
    """
    source = _open(storage, reference["fragment"], reference["array"])
    stacked = list(source.shape[1:]) == reference["shape"]
    if (
        source.dtype.name != reference["dtype"]
        or source.shape[0] < reference["stop"]
        or not (stacked or source.ndim == 1)
    ):
        raise CorruptData(
            f"fragment {reference['fragment']!r}, array {reference['array']!r} in {storage.url} is {source.dtype.name} "
            f"{list(source.shape)}; the table points to {reference['start']}–{reference['stop']} of {reference['dtype']}."
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


def _write_stacked(
    group: zarr.Group, name: str, field: ArrayField, arrays: Sequence[np.ndarray]
) -> list[tuple[int, int]]:
    first = arrays[0]
    chunk = _chunk(first.shape, first.dtype.itemsize)
    padded = tuple(math.ceil(size / part) * part for size, part in zip(first.shape, chunk, strict=True))
    per_shard = max(1, min(len(arrays), _SHARD_BYTES // max(1, math.prod(padded) * first.dtype.itemsize)))
    target = group.create_array(
        name,
        shape=(len(arrays), *first.shape),
        dtype=first.dtype,
        chunks=(1, *chunk),
        shards=(per_shard, *padded),
        compressors=_compressor(field.codec, first.dtype),
        filters=None,
        dimension_names=("sample", *field.axes(first.ndim)),
        attributes=_attributes(field, "stacked"),
    )
    for begin in range(0, len(arrays), per_shard):  # whole shards: each is written once
        target[begin : begin + per_shard] = np.stack(arrays[begin : begin + per_shard])
    return [(row, row + 1) for row in range(len(arrays))]


def _write_flat(group: zarr.Group, name: str, field: ArrayField, arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    dtype = arrays[0].dtype
    ends = np.cumsum([array.size for array in arrays])
    chunk = max(1, min(int(ends[-1]), _FLAT_CHUNK_BYTES // dtype.itemsize))
    shard = chunk * max(1, min(math.ceil(int(ends[-1]) / chunk), _SHARD_BYTES // (chunk * dtype.itemsize)))
    target = group.create_array(
        name,
        shape=(int(ends[-1]),),
        dtype=dtype,
        chunks=(chunk,),
        shards=(shard,),
        compressors=_compressor(field.codec, dtype),
        filters=None,
        dimension_names=("element",),
        attributes=_attributes(field, "flat"),
    )
    target[:] = np.concatenate([array.reshape(-1) for array in arrays])
    return [(int(end) - array.size, int(end)) for end, array in zip(ends, arrays, strict=True)]


def _chunk(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """A sample's chunk: the whole sample, or its longest axes halved until it is small enough to be read in parts."""
    chunk = list(shape)
    while math.prod(chunk) * itemsize > _CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = math.ceil(chunk[longest] / 2)
    return tuple(chunk)


def _compressor(codec: str, dtype: np.dtype[Any]) -> Any:
    from zarr.codecs import BloscCodec, ZstdCodec

    if codec == "none":
        return None
    if codec == "zstd":
        return ZstdCodec(level=1)
    return BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=dtype.itemsize)


def _attributes(field: ArrayField, layout: str) -> dict[str, Any]:
    return {"layout": layout, **({"units": field.unit} if field.unit else {})}


def _reference(fragment: str, name: str, start: int, stop: int, array: np.ndarray) -> Reference:
    return {
        "fragment": fragment,
        "array": name,
        "start": start,
        "stop": stop,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
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


@functools.lru_cache(maxsize=512)
def _open(storage: Storage, fragment: str, name: str) -> zarr.Array[Any]:
    import zarr

    try:
        with storage.translated(FOLDER, fragment, name):
            return zarr.open_array(storage.zarr_store(FOLDER, fragment, read_only=True), path=name, mode="r")
    except (FileNotFoundError, zarr.errors.ArrayNotFoundError) as error:
        raise CorruptData(
            f"fragment {fragment!r}, array {name!r} is not in {storage.url}. "
            "It was removed behind the catalog's back: run verify, and restore it from a copy."
        ) from error
