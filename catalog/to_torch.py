"""A selection as a torch data set: an order that is computed, never remembered."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["SampleStream"]

_READERS = 2


class SampleStream(IterableDataset):  # type: ignore[misc]
    """Samples, or batches of them, in an order that is a pure function of (seed, epoch, rank, position).

    With ``batch_size`` it yields dictionaries of batches: arrays of one shape as one tensor [B, ...], arrays of differing
    shapes as a list of tensors, numbers as a tensor [B], everything else as a list. Without, it yields single samples.
    Use ``num_workers=0`` and ``batch_size=None`` in a ``DataLoader``, or none at all: payload is read ahead by threads.
    In a loader with workers (spawned ones: a forked process cannot read), they take the batches in turn.

    Over several ranks, every rank gets the same number of samples while shuffling (the remainder of the epoch's order is
    left out, other samples in each epoch) and every sample exactly once otherwise.

    Each pass is an epoch; ``state_dict`` says where in which epoch the stream is, and ``load_state_dict`` goes on there
    without reading what came before.
    """

    def __init__(
        self,
        selection: Selection,
        transform: Callable[[dict[str, Any]], Any] | None,
        batch_size: int | None,
        shuffle: bool,
        seed: int,
        rank: int | None,
        world_size: int | None,
        prefetch: int,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InvalidSetting(f"batch_size must be 1 or more, or None; got {batch_size}.")
        if prefetch < 0:
            raise InvalidSetting(f"prefetch must be 0 or more; got {prefetch}.")
        self._selection, self._transform = selection, transform
        self._batch_size, self._shuffle, self._seed, self._prefetch = batch_size, shuffle, seed, prefetch
        default_rank, default_size = _distributed()
        self.rank = default_rank if rank is None else rank
        self.world_size = default_size if world_size is None else world_size
        if not 0 <= self.rank < self.world_size:
            raise InvalidSetting(f"rank must be from 0 to world_size - 1; got {self.rank} of {self.world_size}.")
        self.epoch = 0
        self._position = 0
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def __len__(self) -> int:
        """Samples, or batches, of this rank in an epoch."""
        whole, rest = divmod(len(self._selection), self.world_size)
        samples = whole + (0 if self._shuffle else int(self.rank < rest))
        return samples if self._batch_size is None else -(-samples // self._batch_size)

    def _order(self, epoch: int) -> np.ndarray:
        """Positions in the selection that this rank yields in ``epoch``."""
        count = len(self._selection)
        if not self._shuffle:
            return np.arange(self.rank, count, self.world_size)
        order = np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(count)
        return order[: count - count % self.world_size][self.rank :: self.world_size]

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

    def __iter__(self) -> Iterator[Any]:
        """From the current position to the end of the epoch.

        Raises:
            InvalidSetting: in a forked process, where the threads of Arrow, Polars and Zarr are gone and reading would hang.
        """
        if os.getpid() != self._process:
            raise InvalidSetting(
                "a stream cannot be read in a forked process. Use num_workers=0 (payload is read ahead by threads), or "
                "DataLoader(..., multiprocessing_context='spawn')."
            )
        order = self._order(self.epoch)
        step = self._batch_size or 1
        starts = range(self._position, len(order), step)
        info = get_worker_info()
        if info is not None:
            starts = starts[info.id :: info.num_workers]
        requests = ((start, order[start : start + step]) for start in starts)
        for start, samples in self._ahead(requests):
            self._position = min(start + step, len(order))
            yield samples
        self.epoch, self._position = self.epoch + 1, 0

    def _ahead(self, requests: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, Any]]:
        """Read with threads, ``prefetch`` requests ahead of the consumer."""
        if self._prefetch == 0:
            yield from ((start, self._read(positions)) for start, positions in requests)
            return
        _ = self._selection.rows  # once, not once in each thread
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

    def _read(self, positions: np.ndarray) -> Any:
        columns = self._selection.read(positions)
        if self._batch_size is None:
            sample = {name: _tensor(values[0]) for name, values in columns.items()}
            return sample if self._transform is None else self._transform(sample)
        if self._transform is not None:
            singles = [
                self._transform({name: _tensor(values[index]) for name, values in columns.items()})
                for index in range(len(positions))
            ]
            if not all(isinstance(single, dict) for single in singles):
                return singles
            return {name: _collated([single[name] for single in singles]) for name in singles[0]}
        return {name: _collated(values) for name, values in columns.items()}


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    return value


def _collated(values: Sequence[Any]) -> Any:
    """Values of a batch as one tensor where that is possible, else as a list."""
    first = values[0]
    if isinstance(first, np.ndarray):
        if all(isinstance(v, np.ndarray) and v.shape == first.shape and v.dtype == first.dtype for v in values):
            return torch.from_numpy(np.stack(values))
        return [_tensor(value) for value in values]
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
