"""One sample: its scalars at once, its arrays when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from sensorium.catalog import fragments
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import ArrayField
from sensorium.platform.errors import UnknownField, close_matches
from sensorium.platform.storage import Storage

__all__ = ["ArrayView", "Sample"]


class ArrayView:
    """An array that is still in storage: slicing it reads the chunks needed, ``numpy.asarray`` reads it whole.

    Attributes:
        shape, dtype, nbytes: as of the NumPy array.
    """

    def __init__(self, storage: Storage, reference: fragments.Reference) -> None:
        self._storage, self._reference = storage, reference
        self.shape: tuple[int, ...] = tuple(reference["shape"])
        self.dtype = np.dtype(reference["dtype"])
        self.nbytes: int = reference["nbytes"]

    def __getitem__(self, key: Any) -> np.ndarray:
        return fragments.read_part(self._storage, self._reference, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = fragments.read(self._storage, self._reference)
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ArrayView(shape={self.shape}, dtype={self.dtype.name})"


class Sample(Mapping[str, Any]):
    """A sample as a mapping of its fields.

    ``sample["image"]`` is a NumPy array, read on first access and kept; ``sample["label"]`` a Python value. Fields that the
    sample does not have are not in it; values that the data set gives once for all its samples are.

    Attributes:
        id: the sample's id.
    """

    def __init__(
        self,
        storage: Storage,
        declaration: Declaration,
        row: Mapping[str, Any],
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """A sample of a row; payload is read inside ``guard``, which may say better than storage why it is gone."""
        self._storage, self._declaration, self._guard = storage, declaration, guard
        self._row = {name: value for name, value in row.items() if value is not None}
        self._arrays: dict[str, np.ndarray] = {}
        self.id: str = self._row.pop("id")
        for name, value in declaration.attributes.items():
            self._row.setdefault(name, value)

    def __getitem__(self, name: str) -> Any:
        if name == "id":
            return self.id
        if name not in self._row:
            raise UnknownField(
                f"data set {self._declaration.name!r}, sample {self.id!r}: there is no field {name!r}. "
                f"{close_matches(name, self._row)}".rstrip()
            )
        if not self._is_array(name):
            return self._row[name]
        if name not in self._arrays:
            try:
                self._arrays[name] = fragments.read(self._storage, self._row[name])
            except Exception:
                with self._guard():
                    raise
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("id", *self._row))

    def __len__(self) -> int:
        return 1 + len(self._row)

    def __contains__(self, name: object) -> bool:
        return name == "id" or name in self._row  # Mapping's own would read the array

    def view(self, name: str) -> ArrayView:
        """The array field ``name`` without reading it: slice it to read a part."""
        if name not in self._row or not self._is_array(name):
            arrays = [field for field in self._row if self._is_array(field)]
            raise UnknownField(
                f"data set {self._declaration.name!r}, sample {self.id!r}: there is no array {name!r}. "
                f"{close_matches(name, arrays)}".rstrip()
            )
        return ArrayView(self._storage, self._row[name])

    def __repr__(self) -> str:
        parts = [
            f"{name}={list(value['shape'])} {value['dtype']}" if self._is_array(name) else f"{name}={value!r:.40}"
            for name, value in self._row.items()
        ]
        return f"Sample({self.id!r}, {', '.join(parts)})"

    def _is_array(self, name: str) -> bool:
        return isinstance(self._declaration.fields.get(name), ArrayField)
