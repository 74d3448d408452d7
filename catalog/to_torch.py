"""A selection as a torch data set: an order that is computed, never remembered."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sensorium.catalog.buffers import Buffers
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["Order", "SampleStream"]

_READERS = 2
#: at most so many batches or single samples, and so many bytes, are read at a time
_TOGETHER = 64
_TOGETHER_BYTES = 4 << 20
#: shuffling near by: samples of a stretch lie together; so many stretches, from anywhere, are mixed with each other
_STRETCH_BYTES = 8 << 20
_STRETCHES = 32


@dataclass(frozen=True)
class Order:
    """In which order samples come.

    Attributes:
        shuffle: False: as in the selection. True: every order of an epoch is as likely as any other. ``"near"``: stretches
            of samples that lie together in storage (8 MB each) come in a random order, and the samples of 32 neighbouring
            stretches of that order in a random order among each other: a batch mixes 32 places of the data set, and each
            stretch is asked for about once. Correlations between samples of a stretch are weakened, not gone.
        seed: of the order.
        rank, world_size: this share, of so many; None: those of the process group, or all.
    """

    shuffle: bool | Literal["near"] = False
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None


class SampleStream(IterableDataset):  # type: ignore[misc]
    """Samples, or batches of them, in an order that is a pure function of (seed, epoch, rank, position).

    With ``batch_size`` it yields dictionaries of batches: arrays of one shape as one tensor [B, ...], arrays of differing
    shapes as a list of tensors, numbers as a tensor [B], everything else as a list. Without, it yields single samples.
    Iterate over it as it is, or with a ``DataLoader(stream, batch_size=None)``: payload is read ahead by threads, which is
    faster than processes unless ``transform`` is slow Python; then iterate over :meth:`with_workers`.

    Over several ranks, every rank gets the same number of samples while shuffling (the remainder of the epoch's order is
    left out, other samples in each epoch) and every sample exactly once otherwise.

    Each pass is an epoch; ``state_dict`` says where in which epoch the stream is, and ``load_state_dict`` goes on there
    without reading what came before, with as many workers as one likes.

    Batches are filled in memory that is used again once nobody refers to them: keep a batch, or views of it, as long as you
    like.

    Attributes:
        epoch: that the next pass goes through.
        rank, world_size: this share, of so many.
    """

    def __init__(
        self,
        selection: Selection,
        transform: Callable[[dict[str, Any]], Any] | None,
        batch_size: int | None,
        order: Order,
        *,
        prefetch: int = 2,
        check: bool = False,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InvalidSetting(f"batch_size must be 1 or more, or None; got {batch_size}.")
        if prefetch < 0:
            raise InvalidSetting(f"prefetch must be 0 or more; got {prefetch}.")
        if order.shuffle not in (True, False, "near"):
            raise InvalidSetting(f"shuffle must be True, False or 'near'; got {order.shuffle!r}.")
        self._selection, self._transform = selection, transform
        self._batch_size, self._shuffle, self._seed = batch_size, order.shuffle, order.seed
        self._prefetch, self._check, self._pin_memory = prefetch, check, pin_memory
        default_rank, default_size = _distributed()
        self.rank = default_rank if order.rank is None else order.rank
        self.world_size = default_size if order.world_size is None else order.world_size
        if not 0 <= self.rank < self.world_size:
            raise InvalidSetting(f"rank must be from 0 to world_size - 1; got {self.rank} of {self.world_size}.")
        self.epoch = 0
        self._position = 0
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_buffers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def __len__(self) -> int:
        """Samples, or batches, of this rank in an epoch."""
        whole, rest = divmod(len(self._selection), self.world_size)
        samples = whole + (0 if self._shuffle else int(self.rank < rest))
        return samples if self._batch_size is None else -(-samples // self._batch_size)

    # -- order --------------------------------------------------------------------------------------------------------

    def _order(self, epoch: int) -> np.ndarray:
        """Positions in the selection that this rank yields in ``epoch``."""
        count = len(self._selection)
        if not self._shuffle:
            return np.arange(self.rank, count, self.world_size)
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        order = self._nearby(generator) if self._shuffle == "near" else generator.permutation(count)
        return order[: count - count % self.world_size][self.rank :: self.world_size]

    def _nearby(self, generator: np.random.Generator) -> np.ndarray:
        """All positions, stretches of storage mixed with a few others."""
        places, samples = self._stored
        stretches = [places[begin : begin + samples] for begin in range(0, len(places), samples)]
        mixed = [stretches[index] for index in generator.permutation(len(stretches))]
        windows = [np.concatenate(mixed[begin : begin + _STRETCHES]) for begin in range(0, len(mixed), _STRETCHES)]
        return np.concatenate([generator.permutation(window) for window in windows]) if windows else places

    @cached_property
    def _stored(self) -> tuple[np.ndarray, int]:
        """Positions in the order of storage, and how many make up a stretch."""
        selection = self._selection
        arrays = [name for name in selection.fields if name in selection.declaration.arrays]
        if not arrays or selection.rows.is_empty():
            return np.arange(len(selection)), max(1, len(selection))
        place = pl.col(arrays[0]).struct
        rows = selection.rows.with_row_index("position")
        rows = rows.sort(place.field("fragment"), place.field("array"), place.field("start"), "id")
        nbytes = sum(int(selection.rows[name].struct.field("nbytes").sum()) for name in arrays)
        return rows["position"].to_numpy().astype(np.int64), max(1, _STRETCH_BYTES * len(rows) // max(1, nbytes))

    # -- position -----------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Begin ``epoch`` anew; needed only in a loader with workers, whose passes this object does not see."""
        self.epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain numbers."""
        return {
            "epoch": self.epoch,
            "position": self._position,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "world_size": self.world_size,
            "samples": len(self._selection),
            "data": f"{self._selection.name}@{self._selection.version}",
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            InvalidSetting: the state belongs to another order (other data, version, seed or number of ranks).
        """
        mine = self.state_dict()
        for key in ("seed", "shuffle", "world_size", "samples", "data"):
            if state.get(key) != mine[key]:
                raise InvalidSetting(
                    f"the saved position is of a stream with {key} = {state.get(key)!r}, and this one has {mine[key]!r}. "
                    f"Open the stream with the same {key} to go on."
                )
        self.epoch, self._position = int(state["epoch"]), int(state["position"])

    # -- passes -------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """From the current position to the end of the epoch.

        Raises:
            InvalidSetting: in a forked process, where the threads of Arrow and Polars are gone and reading would hang.
        """
        if os.getpid() != self._process:
            raise InvalidSetting(
                "a stream cannot be read in a forked process. Use num_workers=0 (payload is read ahead by threads), or "
                "DataLoader(..., multiprocessing_context='spawn')."
            )
        order = self._order(self.epoch)
        info = get_worker_info()
        own, turns = (0, 1) if info is None else (info.id, info.num_workers)
        step = self._batch_size or 1
        # of what is small, several are read at a time; where workers take turns with batches, one
        together = step * (self._together if turns == 1 else 1)
        starts = range(self._position, len(order), together)[own::turns]
        requests = ((start, order[start : start + together]) for start in starts)
        for start, block in self._ahead(requests):
            for offset, samples in enumerate(block):
                self._position = min(start + (offset + 1) * step, len(order))
                yield samples
        self.epoch, self._position = self.epoch + 1, 0

    def with_workers(self, workers: int, **options: Any) -> Iterator[Any]:
        """One pass, as iterating over the stream, by processes: for transforms that keep the interpreter busy.

        The position is kept here, so that a state can be saved at any moment, and loaded into a stream that has another
        number of workers.

        Args:
            workers: processes, spawned.
            options: of the ``DataLoader``, such as ``persistent_workers``.

        Raises:
            InvalidSetting: the stream yields single samples; fewer than one worker.
        """
        if self._batch_size is None or workers < 1:
            raise InvalidSetting("workers take turns with batches: give a batch_size, and 1 worker or more.")
        # a loader pins memory itself; processes cannot share what is pinned in one of them
        loader = DataLoader(
            self, batch_size=None, num_workers=workers, multiprocessing_context="spawn",
            pin_memory=self._pins, **options,
        )  # fmt: skip
        total = len(self._order(self.epoch))
        for batch in loader:
            self._position = min(self._position + self._batch_size, total)
            yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def _ahead(self, requests: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, Any]]:
        """Read with threads, ``prefetch`` requests ahead of the consumer."""
        if self._prefetch == 0:
            yield from ((start, self._read(positions)) for start, positions in requests)
            return
        _ = self._selection.rows, self._buffers  # once, not once in each thread
        with ThreadPoolExecutor(_READERS, thread_name_prefix="sensorium-read") as pool:
            waiting: list[tuple[int, Future[Any]]] = []
            try:
                for start, positions in itertools.chain(requests, [(-1, None)]):
                    if positions is not None:
                        waiting.append((start, pool.submit(self._read, positions)))
                    while waiting and (positions is None or len(waiting) > self._prefetch):
                        begun, future = waiting.pop(0)
                        yield begun, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    # -- samples ------------------------------------------------------------------------------------------------------

    @cached_property
    def _pins(self) -> bool:
        return torch.cuda.is_available() if self._pin_memory is None else self._pin_memory

    @cached_property
    def _buffers(self) -> Buffers:
        return _pinned_buffers() if self._pins and get_worker_info() is None else _buffers()

    @cached_property
    def _together(self) -> int:
        """How many batches, or single samples, are read at a time: small ones cost more to ask for than to read."""
        if self._transform is not None or not len(self._selection):
            return 1  # a thread each, as they may take long
        arrays = [name for name in self._selection.fields if name in self._selection.declaration.arrays]
        nbytes = sum(int(self._selection.rows[name].struct.field("nbytes").sum()) for name in arrays)
        each = max(1, nbytes // len(self._selection)) * (self._batch_size or 1)
        return max(1, min(_TOGETHER, _TOGETHER_BYTES // each))

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """The batch of the samples at ``positions`` of the selection, without the transform."""
        columns = self._selection.batch(positions, self._buffers.take, check=self._check)
        return {name: _batched(values) for name, values in columns.items()}

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The sample at ``position`` of the selection, without the transform."""
        return _singles(self.__getitems__([position]), 1)[0]

    def _read(self, positions: np.ndarray) -> list[Any]:
        """The batches, or single samples, at ``positions``."""
        block = self.__getitems__(positions)  # type: ignore[arg-type]  # an array of positions will do
        if self._batch_size is not None and self._transform is None:
            return _batches(block, len(positions), self._batch_size)
        singles: list[Any] = _singles(block, len(positions))
        if self._transform is not None:
            singles = [self._transform(single) for single in singles]
        if self._batch_size is None:
            return singles
        if not all(isinstance(single, dict) for single in singles):
            return [singles]
        return [{name: _collated([single[name] for single in singles]) for name in singles[0]}]


@functools.cache
def _buffers() -> Buffers:
    """Of this process: streams come and go."""
    return Buffers()


@functools.cache
def _pinned_buffers() -> Buffers:
    return Buffers(allocate=_pinned)


def _pinned(nbytes: int) -> np.ndarray:
    return np.asarray(torch.empty(nbytes, dtype=torch.uint8, pin_memory=True))


def _batched(values: np.ndarray | list[Any]) -> Any:
    """A column as a tensor, or as a list, of tensors where they are arrays."""
    if isinstance(values, np.ndarray):
        if values.dtype == np.float64 and values.ndim == 1:
            return torch.from_numpy(values.astype(np.float32))  # as torch makes of Python's numbers
        if values.ndim == 1 and values.dtype.kind in "iu":
            return torch.from_numpy(values.astype(np.int64))
        return torch.from_numpy(values if values.flags.writeable else values.copy())
    return _collated([_tensor(value) for value in values] if _some_array(values) else values)


def _some_array(values: list[Any]) -> bool:
    """Whether a column is one of arrays, of which some may be missing."""
    return isinstance(next((value for value in values if value is not None), None), np.ndarray)


def _batches(block: dict[str, Any], count: int, size: int) -> list[dict[str, Any]]:
    """A block of samples in batches, which share its memory."""
    if count <= size:
        return [block]
    cuts = [slice(begin, begin + size) for begin in range(0, count, size)]
    return [{name: values[cut] for name, values in block.items()} for cut in cuts]


def _singles(batch: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """A batch as single samples: numbers are Python's."""
    columns = {
        name: values.tolist() if isinstance(values, torch.Tensor) and values.ndim == 1 else list(values)
        for name, values in batch.items()
    }
    return [{name: values[index] for name, values in columns.items()} for index in range(count)]


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    return value


def _collated(values: Sequence[Any]) -> Any:
    """Values of a batch as one tensor where that is possible, else as a list."""
    first = values[0]
    if isinstance(first, np.ndarray):
        return _collated([_tensor(value) for value in values])
    if isinstance(first, torch.Tensor):
        if all(isinstance(v, torch.Tensor) and v.shape == first.shape and v.dtype == first.dtype for v in values):
            return torch.stack(list(values))
        return list(values)
    if all(isinstance(value, bool | int | float) for value in values):
        return torch.tensor(values)
    return list(values)


def _distributed() -> tuple[int, int]:
    """Rank and world size of the process group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
