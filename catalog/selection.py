"""A selection: samples of one data set at one version, chosen lazily and read in whatever form the reader wants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from sensorium.catalog import fragments
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.payload import Payload, Take
from sensorium.catalog.sample import Sample
from sensorium.catalog.shards import is_range
from sensorium.catalog.table import Table
from sensorium.platform.errors import InvalidQuery, UnknownField, UnknownSample, close_matches
from sensorium.platform.optional import require
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array
    import xarray

    from sensorium.catalog.to_torch import SampleStream

__all__ = ["Predicate", "Selection", "as_expression", "first_line", "query_error"]

Predicate = pl.Expr | str | None


def as_expression(predicate: Predicate, name: str) -> pl.Expr | None:
    """A predicate as a Polars expression; text is SQL, such as ``"label = 'cat' and height > 256"``."""
    if predicate is None or isinstance(predicate, pl.Expr):
        return predicate
    try:
        return pl.sql_expr(predicate)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InvalidQuery(
            f"data set {name!r}: the predicate {predicate!r} is not SQL: {first_line(error)}. "
            "Write it as in a WHERE clause: text in single quotes, names bare."
        ) from error


def query_error(error: Exception, name: str, declaration: Declaration) -> UnknownField | InvalidQuery:
    """What Polars says of a query on the data set ``name``, in one line of ours."""
    reason = first_line(error)
    if isinstance(error, pl.exceptions.ColumnNotFoundError):
        quoted = re.search(r'"([^"]+)"', reason)
        missing = quoted[1] if quoted else reason
        return UnknownField(
            f"data set {name!r} has no field {missing!r}. {close_matches(missing, ['id', *declaration.fields])}".rstrip()
        )
    return InvalidQuery(f"data set {name!r}: the query cannot be run: {reason}.")


def first_line(error: Exception) -> str:
    """The first line of a message that goes on with plans and stacks."""
    return str(error).strip().partition("\n")[0].strip().rstrip(".:")


class Selection:
    """Samples of a data set at one version.

    Nothing is read until it is needed, and then only the Parquet columns and the chunks that are needed. Samples are in
    the order asked for, else in the order of their ids: the same on every machine and at every time.

    Attributes:
        name: of the data set.
        version: that the selection is pinned to.
        declaration: of the data set at that version.
        fields: names of the chosen fields, arrays and scalars.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        version: int,
        predicate: Predicate = None,
        fields: Sequence[str] | None = None,
        order: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self._storage, self.name, self.version = storage, name, version
        self._predicate, self._wanted, self._order, self._limit = predicate, fields, order, limit
        self._expression = as_expression(predicate, name)
        if isinstance(fields, str):
            raise InvalidQuery(f"data set {name!r}: fields is a list of names; got the text {fields!r}.")
        self.fields: tuple[str, ...] = tuple(self.declaration.fields if fields is None else fields)
        for field in self.fields:
            if field != "id":
                self.declaration.require(field)

    def __reduce__(self) -> Any:
        return Selection, (
            self._storage, self.name, self.version, self._predicate, self._wanted, self._order, self._limit,
        )  # fmt: skip

    @property
    def ordered(self) -> bool:
        """Whether an order was asked for."""
        return self._order is not None

    # -- rows ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> Any:
        return Table(self._storage.below("samples"), self.name).open(self.version)

    @cached_property
    def declaration(self) -> Declaration:
        return Table(self._storage.below("samples"), self.name).declaration(self._table)

    def lazy(self) -> pl.LazyFrame:
        """The chosen rows as a lazy frame: ``id``, scalars, and a struct that points to the payload per array field."""
        frame = pl.scan_delta(self._table)
        if self._expression is not None:
            frame = frame.filter(self._expression)
        keys = [self._order] if isinstance(self._order, str) else list(self._order or ())
        names = [key.removeprefix("-") for key in keys]
        for name in names:
            if name != "id":
                self.declaration.require(name)
        frame = frame.sort([*names, "id"], descending=[*(key.startswith("-") for key in keys), False], nulls_last=True)
        if self._limit is not None:
            frame = frame.head(self._limit)
        return frame.select("id", *(field for field in self.fields if field != "id"))

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The chosen rows, read once."""
        return self._collect(self.lazy())

    def frame(self) -> pl.DataFrame:
        """``id`` and the chosen scalars; payload is neither read nor shown."""
        arrays = self.declaration.arrays
        if "rows" in self.__dict__:
            return self.rows.select(pl.exclude(list(arrays)))
        return self._collect(self.lazy().select("id", *(f for f in self.fields if f not in arrays and f != "id")))

    @cached_property
    def _length(self) -> int:
        if "rows" in self.__dict__:
            return self.rows.height
        frame = pl.scan_delta(self._table)
        if self._expression is not None:
            frame = frame.filter(self._expression)
        count = int(self._collect(frame.select(pl.len())).item())
        return count if self._limit is None else min(count, self._limit)

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _names(self) -> list[str]:
        return self.rows.columns

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {identifier: position for position, identifier in enumerate(self.rows["id"])}

    def __getitem__(self, key: int | str) -> Sample:
        """The sample at a position, or with an id.

        Raises:
            IndexError, UnknownSample: there is none.
        """
        if isinstance(key, str):
            if key not in self._positions:
                raise UnknownSample(
                    f"data set {self.name!r} at version {self.version}: the selection has no sample {key!r}. "
                    f"{close_matches(key, list(self._positions)[:10_000])}".rstrip()
                )
            key = self._positions[key]
        if not -len(self) <= key < len(self):
            raise IndexError(f"data set {self.name!r}: the selection has {len(self)} samples, and none at {key}.")
        row = dict(zip(self._names, self.rows.row(key), strict=True))
        return Sample(self._storage, self.declaration, row, self._readable)

    def __iter__(self) -> Iterator[Sample]:
        for row in self.rows.iter_rows(named=True):
            yield Sample(self._storage, self.declaration, row, self._readable)

    def read(self, positions: Sequence[int] | np.ndarray | None = None) -> dict[str, list[Any]]:
        """The samples at ``positions`` (all of them without), a list per field; payload that lies together is read at once.

        Returns:
            ``id`` and the chosen fields: arrays as NumPy arrays, scalars as Python values, None where there is none.
        """
        rows = self.rows if positions is None else self.rows[np.asarray(positions).tolist()]
        columns: dict[str, list[Any]] = {}
        with self._readable():
            for name in rows.columns:
                values = rows[name].to_list()
                columns[name] = (
                    fragments.read_present(self._storage, values) if name in self.declaration.arrays else values
                )
        return columns

    def batch(
        self, positions: Sequence[int] | np.ndarray, take: Take = np.empty, *, check: bool = False
    ) -> dict[str, np.ndarray | list[Any]]:
        """The samples at ``positions`` for those who compute: arrays stacked, filled in place by the shortest way.

        Args:
            positions: in the selection.
            take: gives the memory that a field's arrays are read into.
            check: compare checksums of payload, as :meth:`read` does.

        Returns:
            ``id`` and the chosen fields: arrays [n, ...] where all samples of the selection share shape and dtype, numbers
            and booleans [n] where none is missing, else lists.

        Raises:
            CorruptData: payload is missing or cut short.
        """
        chosen = np.asarray(positions, np.int64)
        in_order = len(chosen) > 0 and is_range(chosen)
        columns: dict[str, np.ndarray | list[Any]] = {}
        for name in self.rows.columns:
            if name in self.declaration.arrays:
                with self._readable():
                    columns[name] = self._payload(name).batch(chosen, take, check=check)
            elif name in self._numbers:
                columns[name] = self._numbers[name][chosen]
            else:
                others = self._others[name]
                part = others.slice(chosen[0], len(chosen)) if in_order else others.take(chosen)
                columns[name] = part.to_pylist()
        return columns

    def kind(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """Shape and dtype that the array field ``name`` has in all samples; None where they differ or one has none."""
        return self._payload(self.array_field(name).name).kind

    def _readable(self) -> AbstractContextManager[None]:
        """Say so where a vacuum has taken this version from under its readers."""
        return Table(self._storage.below("samples"), self.name).readable(self.version)

    def _payload(self, name: str) -> Payload:
        if name not in self._payloads:
            self._payloads[name] = Payload(self._storage, self.rows[name])
        return self._payloads[name]

    @cached_property
    def _payloads(self) -> dict[str, Payload]:
        return {}

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        """Columns of numbers and booleans that no sample lacks."""
        return {
            column.name: column.to_numpy()
            for column in self.rows
            if (column.dtype.is_numeric() or column.dtype == pl.Boolean) and not column.null_count()
        }

    @cached_property
    def _others(self) -> dict[str, pa.Array]:
        """Columns that are neither numbers nor payload."""
        names = [
            name for name in self.rows.columns if name not in self._numbers and name not in self.declaration.arrays
        ]
        return {name: self.rows[name].rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()) for name in names}

    # -- readers ------------------------------------------------------------------------------------------------------

    def dask(self, field: str) -> dask.array.Array | list[dask.array.Array]:
        """The arrays of ``field`` as a Dask array [sample, ...]; a list of Dask arrays where shapes differ."""
        from sensorium.catalog import to_dask

        return to_dask.arrays(self._storage, self.array_field(field), self.rows)

    def ray(self, batch: int = 64, *, check: bool = True) -> Any:
        """The samples as a ``ray.data.Dataset``, a row each; payload is read in the workers.

        Args:
            batch: samples that a worker reads at a time.
            check: compare checksums of payload.
        """
        require("ray.data", "read a selection as a Ray data set")
        from sensorium.catalog import to_ray

        return to_ray.dataset(self, self._storage, batch, check=check)

    def torch(
        self,
        fields: Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        *,
        batch_size: int | None = None,
        shuffle: bool | Literal["near"] = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        prefetch: int = 2,
        check: bool = False,
        pin_memory: bool | None = None,
    ) -> SampleStream:
        """The samples as an iterable torch data set whose order can be resumed; see :class:`.SampleStream`.

        Args:
            fields: names of the fields wanted; the selection's without.
            transform: of each sample, a dictionary of tensors and values.
            batch_size: samples of a batch; None yields single samples.
            shuffle: in another order in every epoch: True, anywhere in the selection; ``"near"``, among stretches of samples
                that lie together, for storage far away.
            seed: of that order.
            rank: which share to yield; that of the process group, where there is one.
            world_size: how many shares there are.
            prefetch: batches (or blocks of samples) read ahead by threads.
            check: compare checksums of payload.
            pin_memory: batches in page-locked memory; None where CUDA is there.
        """
        require("torch", "read a selection as a torch data set")
        from sensorium.catalog.to_torch import Order, SampleStream

        chosen = self if fields is None else self._with_fields(fields)
        order = Order(shuffle, seed, rank, world_size)
        return SampleStream(chosen, transform, batch_size, order, prefetch=prefetch, check=check, pin_memory=pin_memory)

    def xarray(self) -> xarray.Dataset:
        """The samples as a lazy ``xarray.Dataset`` with dims, coordinates and units.

        Raises:
            InvalidQuery: a chosen array field has samples of different shapes.
        """
        from sensorium.catalog import to_xarray

        return to_xarray.dataset(self, self._storage)

    def array_field(self, name: str) -> ArrayField:
        """The declaration of a chosen array field.

        Raises:
            UnknownField: no such field, or a scalar.
        """
        field = self.declaration.require(name)
        arrays = [chosen for chosen in self.fields if chosen in self.declaration.arrays]
        if not isinstance(field, ArrayField) or name not in arrays:
            raise UnknownField(
                f"data set {self.name!r}: {name!r} is not an array of this selection. {close_matches(name, arrays)}".rstrip()
            )
        return field

    def _with_fields(self, fields: Sequence[str]) -> Selection:
        return Selection(
            self._storage, self.name, self.version, self._predicate, tuple(fields), self._order, self._limit
        )

    def _collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        with self._readable():
            try:
                return frame.collect()
            except pl.exceptions.PolarsError as error:
                raise query_error(error, self.name, self.declaration) from error

    def __repr__(self) -> str:
        return f"Selection({self.name}@{self.version}, {len(self)} samples, fields={list(self.fields)})"
