"""What the ``zarr.json`` of an array says (Zarr v3 core and sharding_indexed specifications)."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sensorium.catalog.shards.codecs import Compressor
from sensorium.platform.errors import SensoriumError

__all__ = ["Layout", "UnknownLayout"]

_DTYPES = {
    np.dtype(name).name: np.dtype(name)
    for name in ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
}
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class UnknownLayout(SensoriumError):
    """An array of a kind that this package does not read; a Zarr library may."""


@dataclass(frozen=True)
class Layout:
    """An array, cut into files (shards), which are cut into chunks.

    Attributes:
        shape: of the array.
        dtype: as stored, with its byte order.
        shard: shape of what one file holds.
        chunk: shape of what is coded as one; divides ``shard``.
        compressor: of each chunk; None where chunks are plain bytes.
        sharded: whether files have an index; without, a file is a chunk.
        index_at_end: where in the file the index is.
        index_checked: whether a CRC32C follows the index.
        chunk_checked: whether a CRC32C follows each chunk.
        separator: between the numbers in a file's name.
        prefixed: whether files are named ``c/0/0``, or just ``0/0`` as in Zarr v2.
        fill: value of what was never written.
        axes: names of the axes, None for one without; empty where none has one.
        attributes: of the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    compressor: Compressor | None = None
    sharded: bool = True
    index_at_end: bool = True
    index_checked: bool = True
    chunk_checked: bool = False
    separator: str = "."
    prefixed: bool = True
    fill: Any = 0
    axes: tuple[str | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Chunks per file, along each axis."""
        return tuple(whole // part for whole, part in zip(self.shard, self.chunk, strict=True))

    @cached_property
    def slots(self) -> int:
        """Chunks per file."""
        return math.prod(self.grid)

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk before it is coded."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of a file's index; 0 without one."""
        return 16 * self.slots + 4 * self.index_checked if self.sharded else 0

    def key(self, place: Sequence[int]) -> str:
        """Name of the file at ``place`` in the grid of files, below the array's folder."""
        numbers = [str(number) for number in place]
        return self.separator.join(["c", *numbers] if self.prefixed else numbers)

    def written(self) -> bytes:
        """The content of ``zarr.json``."""
        plain: dict[str, Any] = {"name": "bytes"}
        if self.dtype.itemsize > 1:
            plain["configuration"] = {"endian": "big" if self.dtype.byteorder == ">" else "little"}
        inner = [plain, *([self.compressor.metadata()] if self.compressor else [])]
        sharding = {
            "chunk_shape": list(self.chunk),
            "codecs": inner,
            "index_codecs": _INDEX_CODECS,
            "index_location": "end" if self.index_at_end else "start",
        }
        content = {
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.shard)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": self.separator}},
            "fill_value": _fill_written(self.dtype),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": dict(self.attributes),
            **({"dimension_names": list(self.axes)} if self.axes else {}),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
        return json.dumps(content, indent=1).encode()

    @classmethod
    def parsed(cls, text: bytes) -> Layout:
        """What ``zarr.json`` says.

        Raises:
            UnknownLayout: a data type, codec or grid that is not read here.
            ValueError, KeyError, TypeError: it is not the metadata of a Zarr v3 array.
        """
        content = json.loads(text)
        if content["zarr_format"] != 3 or content["node_type"] != "array":
            raise ValueError("it does not describe a Zarr v3 array")
        dtype = _known(content["data_type"], _DTYPES, "data type")
        grid, keys = content["chunk_grid"], content["chunk_key_encoding"]
        if grid["name"] != "regular" or content.get("storage_transformers"):
            raise UnknownLayout("an irregular grid, or a storage transformer")
        prefixed = _known(keys["name"], {"default": True, "v2": False}, "chunk key encoding")
        outer = tuple(int(size) for size in grid["configuration"]["chunk_shape"])
        shape = tuple(int(size) for size in content["shape"])
        if not shape or len(shape) != len(outer):
            raise UnknownLayout("an array without axes")
        codecs = list(content["codecs"])
        sharding = codecs[0]["configuration"] if codecs[0]["name"] == "sharding_indexed" else None
        if sharding is not None and len(codecs) != 1:
            raise UnknownLayout("codecs around the shards")
        order, compressor, checked = _inner(sharding["codecs"] if sharding is not None else codecs)
        index = [codec["name"] for codec in sharding["index_codecs"]] if sharding is not None else ["bytes"]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise UnknownLayout(f"an index coded with {index}")
        return cls(
            shape=shape,
            dtype=dtype.newbyteorder(order),
            shard=outer,
            chunk=tuple(int(size) for size in sharding["chunk_shape"]) if sharding is not None else outer,
            compressor=compressor,
            sharded=sharding is not None,
            index_at_end=sharding is None or sharding.get("index_location", "end") == "end",
            index_checked=index == ["bytes", "crc32c"],
            chunk_checked=checked,
            separator=keys.get("configuration", {}).get("separator", "/" if prefixed else "."),
            prefixed=prefixed,
            fill=_fill_read(content["fill_value"], dtype),
            axes=tuple(content.get("dimension_names") or ()),
            attributes=content.get("attributes", {}),
        )


def _known(name: Any, known: Mapping[str, Any], what: str) -> Any:
    if not isinstance(name, str) or name not in known:
        raise UnknownLayout(f"{what} {name!r}")
    return known[name]


def _inner(codecs: Sequence[Mapping[str, Any]]) -> tuple[str, Compressor | None, bool]:
    """Byte order, compressor, and whether a checksum follows, of the codecs of a chunk."""
    if codecs[0]["name"] != "bytes":
        raise UnknownLayout(f"codec {codecs[0]['name']!r}")
    order = ">" if codecs[0].get("configuration", {}).get("endian") == "big" else "<"
    rest = list(codecs[1:])
    checked = bool(rest) and rest[-1]["name"] == "crc32c"
    if checked:
        rest.pop()
    if len(rest) > 1:
        raise UnknownLayout(f"codecs {[codec['name'] for codec in codecs]}")
    compressor = Compressor.parsed(rest[0]) if rest else None
    if rest and compressor is None:
        raise UnknownLayout(f"codec {rest[0]['name']!r}")
    return order, compressor, checked


def _fill_written(dtype: np.dtype[Any]) -> Any:
    zeros: dict[str, Any] = {"b": False, "f": 0.0, "c": [0.0, 0.0]}
    return zeros.get(dtype.kind, 0)


def _fill_read(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value as a scalar of ``dtype``."""
    if dtype.kind == "c":
        parts = np.dtype(f"f{dtype.itemsize // 2}")
        return np.array([_fill_read(part, parts) for part in value], parts).view(dtype)[0]
    if isinstance(value, str) and dtype.kind == "f":
        if value in _SPECIAL_FLOATS:
            return dtype.type(_SPECIAL_FLOATS[value])
        if value.startswith("0x"):
            return np.frombuffer(bytes.fromhex(value[2:]), dtype.newbyteorder(">"))[0].astype(dtype)
        return np.frombuffer(base64.b64decode(value), dtype)[0]
    if isinstance(value, str):
        raise UnknownLayout(f"fill value {value!r}")
    try:
        return dtype.type(value)
    except (OverflowError, struct.error) as error:
        raise ValueError(f"fill value {value!r} is no {dtype.name}") from error
