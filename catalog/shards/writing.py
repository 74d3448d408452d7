"""Arrays into files: whole shards, each written once, without a copy where chunks are not compressed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sensorium.catalog.shards import files
from sensorium.catalog.shards.codecs import crc32c, little
from sensorium.catalog.shards.layout import Layout
from sensorium.catalog.shards.threads import in_threads
from sensorium.platform.storage import Storage

__all__ = ["MISSING", "write_array", "write_group"]

#: what the index of a shard has for a chunk that is not there
MISSING = 2**64 - 1


def write_group(storage: Storage, path: str, attributes: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write the metadata of a Zarr v3 group at ``path``."""
    content = {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}
    files.write_new(storage, f"{path}/zarr.json", [json.dumps(content).encode()], durable=durable)


def write_array(
    storage: Storage, path: str, layout: Layout, rows: Sequence[np.ndarray], *, durable: bool = False
) -> None:
    """Write an array at ``path``, a folder that is there and empty; its metadata last.

    Args:
        storage: any storage that ``path`` lies in.
        path: absolute, as :attr:`Storage.fs` wants it.
        layout: of which the shape of shards covers all axes but the first, and whose bytes are little-endian.
        rows: pieces of the array in the order of the first axis, each [n, ...], together as long as the array; each whole
            shard, and no other, ends where a piece ends.
        durable: whether the bytes must be on the disk when this returns.
    """
    inner = (0,) * (len(layout.shape) - 1)
    for number, pieces in enumerate(_shards(rows, layout.shard[0])):
        contents, sizes = _contents(pieces, layout)
        files.write_new(
            storage, f"{path}/{layout.key((number, *inner))}", [*contents, _index(sizes, layout)], durable=durable
        )
    files.write_new(storage, f"{path}/zarr.json", [layout.written()], durable=durable)


def _shards(rows: Sequence[np.ndarray], length: int) -> Iterator[list[np.ndarray]]:
    """The pieces that make up each shard."""
    shard: list[np.ndarray] = []
    reach = 0
    for piece in rows:
        shard.append(piece)
        reach += len(piece)
        if reach >= length:
            yield shard
            shard, reach = [], 0
    if shard:
        yield shard


def _chunks(piece: np.ndarray, chunk: tuple[int, ...]) -> Iterable[np.ndarray]:
    """The chunks of a piece in C order, those at the edges filled up with zeros."""
    if piece.shape == chunk:
        return [piece]
    if piece.shape[1:] == chunk[1:] and len(piece) % chunk[0] == 0:
        return (piece[begin : begin + chunk[0]] for begin in range(0, len(piece), chunk[0]))
    return _cut(piece, chunk)


def _cut(piece: np.ndarray, chunk: tuple[int, ...]) -> Iterator[np.ndarray]:
    for corner in itertools.product(*(range(0, size, part) for size, part in zip(piece.shape, chunk, strict=True))):
        part = piece[tuple(slice(at, at + size) for at, size in zip(corner, chunk, strict=True))]
        if part.shape == chunk:
            yield part
            continue
        padded = np.zeros(chunk, piece.dtype)
        padded[tuple(slice(0, size) for size in part.shape)] = part
        yield padded


def _contents(pieces: Sequence[np.ndarray], layout: Layout) -> tuple[Sequence[bytes | np.ndarray], np.ndarray]:
    """The bytes of a shard's chunks, and the size of each chunk."""
    if layout.compressor is None and layout.chunk == (1, *layout.shape[1:]):  # rows as they are
        count = sum(len(piece) for piece in pieces)
        return [_ordered(piece) for piece in pieces], np.full(count, layout.chunk_bytes, np.uint64)
    chunks = [_ordered(chunk) for piece in pieces for chunk in _chunks(piece, layout.chunk)]
    if layout.compressor is None:
        return chunks, np.full(len(chunks), layout.chunk_bytes, np.uint64)
    coded = in_threads(layout.compressor.encode, chunks, len(chunks) * layout.chunk_bytes)
    return coded, np.array([len(content) for content in coded], np.uint64)


def _ordered(chunk: np.ndarray) -> np.ndarray:
    """The values in C order, little-endian."""
    if chunk.flags.c_contiguous and little(chunk.dtype):
        return chunk
    return np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<"))


def _index(sizes: np.ndarray, layout: Layout) -> bytes:
    """Offset and size of each chunk, with a checksum."""
    index = np.full((math.prod(layout.grid), 2), MISSING, "<u8")
    index[: len(sizes), 1] = sizes
    index[: len(sizes), 0] = np.cumsum(sizes) - sizes
    plain = index.tobytes()
    return plain + int(crc32c(plain)).to_bytes(4, "little")
