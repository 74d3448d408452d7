"""What a field of a sample is: its shape, type, unit and range, declared once and checked at the border.

A field is an *array* (payload, kept in Zarr) or a *scalar* (any Arrow type, nested ones too, kept in the Delta table).

Dims are written as one string of names, alternatives parted by ``|``: ``"H W C"``, ``"T | C T"``. A name that occurs in
several fields of a sample has one length there, so that a mask cannot have another height than its image. ``"..."`` is any
shape.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sensorium.platform.errors import InvalidName, InvalidSetting

__all__ = [
    "CODECS",
    "REFERENCE_TYPE",
    "ArrayField",
    "Field",
    "ScalarField",
    "check_name",
    "from_column",
    "is_storable",
    "storable_type",
]

#: how an array's chunks are stored
CODECS = ("none", "zstd", "blosc")

#: the column of an array field: where its payload is, and what it must be
REFERENCE_TYPE = pa.struct(
    [
        ("fragment", pa.string()),  # folder below fragments/
        ("array", pa.string()),  # Zarr array inside that group
        ("start", pa.int64()),  # row of a stacked array, or first element of a flat one
        ("stop", pa.int64()),
        ("shape", pa.list_(pa.int64())),
        ("dtype", pa.string()),
        ("nbytes", pa.int64()),
        ("checksum", pa.string()),  # XXH3-128 of the C-order bytes, little endian
    ]
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*")
_MARK = "sensorium.field"
#: bool, signed and unsigned integers, floats and complex numbers have a Zarr v3 type; objects and text have none
_KINDS = "biufc"


def check_name(name: str, what: str) -> str:
    """``name`` itself if it can name a data set, field or tag (it becomes a folder and an SQL name)."""
    if not isinstance(name, str) or len(name) > 128 or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot name a {what}: use letters, digits and _ (and single . or - inside), "
            "beginning with a letter, at most 128 characters."
        )
    return name


@functools.lru_cache(maxsize=1024)
def _layouts(dims: str) -> tuple[tuple[str, ...], ...]:
    return () if dims == "..." else tuple(tuple(layout.split()) for layout in dims.split("|"))


@dataclass(frozen=True)
class ArrayField:
    """An array per sample.

    Attributes:
        name: the field's name.
        dims: names of the axes, alternatives parted by ``|``; ``"..."`` for any shape.
        dtypes: NumPy dtype names that are allowed; empty for every boolean or numeric one.
        unit: of the values, in the field's standard notation (``HU``, ``mV``); empty where there is none.
        minimum, maximum: allowed range of the values, inclusive.
        finite: refuse NaN and infinities.
        required: every sample must have it.
        sizes: allowed lengths of some axes, such as ``{"C": (1, 3, 4)}``.
        codec: ``none`` (fastest to read), ``zstd`` or ``blosc`` (LZ4 with bit shuffle).
        coordinates: field that gives the positions along an axis, such as ``{"L": "wavelength"}``.
        chunk: length of a chunk along some axes, such as ``{"Z": 64}``; whole axes otherwise. Empty: a sample is a chunk,
            or is halved until it is small enough. For samples that are stacked.
        shard_bytes: plain size of a file; 0 for the usual one.
        description: one line for the reader of ``catalog show``.
    """

    name: str
    dims: str = "..."
    dtypes: tuple[str, ...] = ()
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    finite: bool = True
    required: bool = False
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    codec: str = "blosc"
    coordinates: Mapping[str, str] = field(default_factory=dict)
    chunk: Mapping[str, int] = field(default_factory=dict)
    shard_bytes: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "field")
        if self.shard_bytes < 0 or any(size < 1 for size in self.chunk.values()):
            raise InvalidSetting(f"field {self.name!r}: sizes of chunks and shards must be above 0.")
        if self.codec not in CODECS:
            raise InvalidSetting(f"field {self.name!r}: codec must be one of {', '.join(CODECS)}; got {self.codec!r}.")

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """The alternatives of ``dims``; empty where any shape will do."""
        return _layouts(self.dims)

    def axes(self, rank: int) -> tuple[str, ...]:
        """Names of the axes of an array of ``rank``; ``dim_0`` and so on where none are declared."""
        for layout in self.layouts:
            if len(layout) == rank:
                return layout
        return tuple(f"dim_{axis}" for axis in range(rank))

    def column(self) -> pa.Field:
        """The column of the sample table, with this declaration in its metadata."""
        declared = {key: value for key, value in vars(self).items() if value != _ARRAY_DEFAULTS.get(key)}
        return pa.field(self.name, REFERENCE_TYPE, metadata={_MARK: json.dumps({"kind": "array", **declared})})


@dataclass(frozen=True)
class ScalarField:
    """A value per sample, or one for the whole data set.

    Attributes:
        name: the field's name.
        type: Arrow type. Unsigned and half types are stored one size larger, nanoseconds as microseconds (Delta has
            neither).
        unit: of the value.
        minimum, maximum: allowed range, inclusive; of every element where the value is a list.
        required: every sample, or the data set's attributes, must have it.
        per_dataset: may be given once, in the data set's attributes.
        dims: for a list that belongs to an axis of the arrays, that axis; its length must agree.
        description: one line for the reader of ``catalog show``.
    """

    name: str
    type: pa.DataType
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    per_dataset: bool = False
    dims: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "field")

    def column(self) -> pa.Field:
        """The column of the sample table, with this declaration in its metadata."""
        declared = {
            key: value for key, value in vars(self).items() if key != "type" and value != _SCALAR_DEFAULTS.get(key)
        }
        return pa.field(
            self.name,
            storable_type(self.type) or self.type,
            metadata={_MARK: json.dumps({"kind": "scalar", **declared})},
        )


Field = ArrayField | ScalarField

_ARRAY_DEFAULTS: dict[str, Any] = {key: value for key, value in vars(ArrayField("x")).items() if key != "name"}
_SCALAR_DEFAULTS: dict[str, Any] = {
    key: value for key, value in vars(ScalarField("x", pa.null())).items() if key != "name"
}


def from_column(column: pa.Field) -> Field:
    """The declaration that :meth:`ArrayField.column` or :meth:`ScalarField.column` wrote; a plain scalar where none is."""
    text = (column.metadata or {}).get(_MARK.encode())
    declared = json.loads(text) if text else {"kind": "scalar", "name": column.name}
    if declared.pop("kind") == "scalar":
        return ScalarField(type=column.type, **declared)
    if "dtypes" in declared:
        declared["dtypes"] = tuple(declared["dtypes"])
    if "sizes" in declared:
        declared["sizes"] = {axis: tuple(lengths) for axis, lengths in declared["sizes"].items()}
    return ArrayField(**declared)


def is_storable(kind: str) -> bool:
    """Whether arrays of this NumPy kind code can be stored."""
    return kind in _KINDS


@functools.cache  # it is asked for every value that comes in
def storable_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that Delta can hold without loss for ``kind``; None where there is none."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = storable_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(kind):
        parts = [(part.name, storable_type(part.type)) for part in kind]
        return None if not parts or any(inner is None for _, inner in parts) else pa.struct(parts)
    if pa.types.is_map(kind):
        key, item = storable_type(kind.key_type), storable_type(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if pa.types.is_dictionary(kind):
        return storable_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if pa.types.is_date(kind):
        return pa.date32()
    replaced = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.int64(),  # values beyond are refused when they are converted
        pa.float16(): pa.float32(),
        pa.large_string(): pa.string(),
        pa.string_view(): pa.string(),
        pa.large_binary(): pa.binary(),
        pa.binary_view(): pa.binary(),
    }
    if kind in replaced:
        return replaced[kind]
    if pa.types.is_null(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_union(kind):
        return None
    return kind
