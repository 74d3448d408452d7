"""The arrays of one field of a selection, read a batch at a time: in place, in any order, at the speed of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from sensorium.catalog import fragments
from sensorium.catalog.shards import ShardedArray, groups
from sensorium.platform.storage import Storage

__all__ = ["Payload", "Take", "uniform_kind"]

#: gives memory for an array of this shape and dtype
Take = Callable[[Sequence[int], np.dtype[Any]], np.ndarray]

Kind = tuple[tuple[int, ...], np.dtype[Any]]


def uniform_kind(references: pl.Series) -> Kind | None:
    """Shape and dtype that all ``references`` share; None where they differ, or one is missing."""
    if references.null_count() or references.is_empty():
        return None
    kinds = references.struct.unnest().select("shape", "dtype").unique()
    if kinds.height != 1:
        return None
    return tuple(kinds["shape"][0]), np.dtype(kinds["dtype"][0])


class Payload:
    """The arrays of one field, by position in a selection.

    Attributes:
        kind: shape and dtype that all of them share; None where they differ, or some sample has none.
    """

    def __init__(self, storage: Storage, references: pl.Series) -> None:
        self._storage, self._references = storage, references
        self.kind = uniform_kind(references)
        self._sources: dict[int, ShardedArray | None] = {}
        self._lock = threading.Lock()

    def batch(
        self, positions: Sequence[int] | np.ndarray, take: Take = np.empty, *, check: bool = False
    ) -> np.ndarray | list[np.ndarray | None]:
        """The arrays at ``positions``: one [n, ...] where all of the selection share shape and dtype, else a list.

        Args:
            positions: in the selection.
            take: gives the memory to be filled.
            check: compare checksums; costs about a fifth of the speed of memory.

        Raises:
            CorruptData: a fragment is missing, cut short, or (with ``check``) not what was committed.
        """
        chosen = np.asarray(positions, np.int64)
        if self.kind is None:
            return self._listed(chosen, check=check)
        shape, dtype = self.kind
        target = take((len(chosen), *shape), dtype)
        arrays = self._arrays[chosen]
        for places in groups(arrays):
            self._fill(int(arrays[places[0]]), chosen[places], target, places)
        if check:
            self._compare(chosen, target)
        return target

    def _fill(self, code: int, positions: np.ndarray, target: np.ndarray, places: np.ndarray) -> None:
        source = self._source(code)
        if source is None:  # laid end to end, among samples of other shapes
            found = self._listed(positions, check=False)
            for place, array in zip(places.tolist(), found, strict=True):
                target[place] = array
            return
        rows = self._starts[positions]
        if rows.max() >= source.shape[0]:
            fragments.check_extent(self._storage, self._references[int(positions[rows.argmax()])])
        with self._storage.translated(fragments.FOLDER, *self._names[code]):
            source.gather(rows, target, places)

    def _source(self, code: int) -> ShardedArray | None:
        if code not in self._sources:
            reference = self._references[int(np.flatnonzero(self._arrays == code)[0])]
            source = fragments.opened(self._storage, *self._names[code])
            fragments.check_extent(self._storage, reference)
            with self._lock:
                self._sources[code] = source if source.ndim == len(reference["shape"]) + 1 else None
        return self._sources[code]

    def _listed(self, positions: np.ndarray, *, check: bool) -> list[np.ndarray | None]:
        references = self._references[positions.tolist()].to_list()
        found = iter(fragments.read_many(self._storage, [one for one in references if one is not None], check=check))
        return [None if reference is None else next(found) for reference in references]

    def _compare(self, positions: np.ndarray, target: np.ndarray) -> None:
        for reference, array in zip(self._references[positions.tolist()].to_list(), target, strict=True):
            fragments.check_content(self._storage, reference, array)

    # -- the references, as arrays of numbers -------------------------------------------------------------------------

    @cached_property
    def _starts(self) -> np.ndarray:
        return self._references.struct.field("start").to_numpy()

    @cached_property
    def _coded(self) -> tuple[np.ndarray, list[tuple[str, str]]]:
        places = self._references.struct.unnest().select("fragment", "array")
        names = places.unique(maintain_order=True).with_row_index("code")
        codes = places.join(names, on=["fragment", "array"], how="left", maintain_order="left")["code"]
        return codes.to_numpy(), list(names.select("fragment", "array").iter_rows())

    @property
    def _arrays(self) -> np.ndarray:
        """For each position, which of the arrays holds it."""
        return self._coded[0]

    @property
    def _names(self) -> list[tuple[str, str]]:
        return self._coded[1]
