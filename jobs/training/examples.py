"""Training examples from a selection of the catalog, in an order that is computed, never remembered.

Samples are read in *pools*: a pool is a set of samples that was read together, prepared, and lies in memory ready to be
gathered from. What fits into the memory allowed is one pool, read once; else each epoch cuts its permutation of samples into
pools, reads the next one while the present one is in use, and shuffles within pools. A sample may give many examples, such
as the windows of a recording.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch

from sensorium.catalog.selection import Selection
from sensorium.platform.errors import CorruptData, InvalidSetting

__all__ = ["Columns", "ExampleStream", "Examples", "Pool", "to_device"]

#: fields of samples that were read together: arrays as NumPy arrays, scalars as Python values, a list each
Columns = Mapping[str, list[Any]]

_BATCHES_AHEAD = 2


class Pool(Protocol):
    """Prepared samples in memory."""

    def __len__(self) -> int:
        """Number of examples."""

    def take(self, indices: np.ndarray) -> Any:
        """The examples at ``indices`` as a batch: tensors in dictionaries, or anything with a method ``to(device)``."""


@dataclass(frozen=True)
class Examples:
    """What a fit learns from, or is validated on.

    Attributes:
        selection: the samples, with the fields that are needed.
        pool: prepares samples that were read together; called in a thread.
        count: from the rows of the selection (references for arrays: ``pl.col(field).struct.field("shape")``) the number
            of examples of each sample; None where each sample is one. Must agree with ``pool``.
        expansion: bytes in a pool for each byte of payload.
    """

    selection: Selection
    pool: Callable[[Columns], Pool]
    count: Callable[[pl.DataFrame], np.ndarray] | None = None
    expansion: float = 1.0


class ExampleStream:
    """Batches of examples for one worker; the order is a pure function of (seed, epoch, rank, position).

    While shuffling, every worker gets the same number of batches; the remainder that cannot be dealt out evenly is left
    out, other examples in each epoch. Without shuffling, examples are dealt out in turn and none is left out.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        memory_mb: int = 2048,
    ) -> None:
        self._examples, self._shuffle, self._seed = examples, shuffle, seed
        self._rank, self._world_size = rank, world_size
        self._batch_size = max(1, batch_size // world_size)
        rows = examples.selection.rows
        if rows.is_empty():
            raise InvalidSetting(
                f"data set {examples.selection.name!r}: no samples are left to read. Look at the predicate and the split."
            )
        self._counts = np.ones(rows.height, np.int64) if examples.count is None else examples.count(rows)
        if int(self._counts.sum()) < world_size:
            raise InvalidSetting(
                f"data set {examples.selection.name!r}: {int(self._counts.sum())} examples cannot be dealt out to "
                f"{world_size} workers. Use fewer workers, or more data."
            )
        self._pools = self._pool_count(rows, memory_mb)
        self._kept: Pool | None = None

    @property
    def examples(self) -> int:
        """Number of examples of all workers together."""
        return int(self._counts.sum())

    def batches(self, epoch: int = 0) -> int:
        """Batches of this worker in ``epoch``."""
        return sum(-(-count // self._batch_size) for _, count, _ in self._cuts(epoch))

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        """The batches of ``epoch`` from number ``start`` on."""
        skipped = 0
        wanted: list[tuple[np.ndarray, list[np.ndarray]]] = []
        for samples, indices in self._plan(epoch):
            cuts = [indices[at : at + self._batch_size] for at in range(0, len(indices), self._batch_size)]
            left = cuts[max(0, start - skipped) :]
            skipped += len(cuts)
            if left:
                wanted.append((samples, left))
        # a second team of compute threads would spin against that of the steps: gathering has to do with one
        alone = functools.partial(torch.set_num_threads, 1)
        with ThreadPoolExecutor(1, thread_name_prefix="sensorium-batch", initializer=alone) as taker:
            for pool, cuts in self._loaded(wanted):
                yield from _ahead(taker, pool, cuts)

    # -- which examples -----------------------------------------------------------------------------------------------

    def _pool_count(self, rows: pl.DataFrame, memory_mb: int) -> int:
        arrays = [name for name in rows.columns if name in self._examples.selection.declaration.arrays]
        payload = sum(int(rows[name].struct.field("nbytes").sum() or 0) for name in arrays)
        allowed = memory_mb << 20
        if payload * self._examples.expansion <= allowed:
            return 1
        return min(
            rows.height, int(np.ceil(2 * payload * self._examples.expansion / allowed))
        )  # one in use, one coming

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, *key])))

    def _cuts(self, epoch: int) -> list[tuple[np.ndarray, int, int]]:
        """Per pool: positions of its samples in the selection, examples of this worker, examples of the pool."""
        everything = np.arange(len(self._counts))
        if self._pools == 1:
            return [(everything, self._part(self.examples), self.examples)]
        order = self._random(epoch).permutation(len(self._counts)) if self._shuffle else everything
        if not self._shared:  # one example a sample: each worker reads its own only
            order = order[: len(order) - len(order) % self._world_size][self._rank :: self._world_size]
        cuts = []
        for samples in np.array_split(order, self._pools):
            count = int(self._counts[samples].sum())
            cuts.append((samples, self._part(count) if self._shared else count, count))
        return cuts

    @property
    def _shared(self) -> bool:
        """Whether all workers read the same pools."""
        return self._pools == 1 or self._examples.count is not None or not self._shuffle

    def _part(self, count: int) -> int:
        """How many of ``count`` examples are dealt out to this worker."""
        whole, rest = divmod(count, self._world_size)
        return whole + (0 if self._shuffle else int(self._rank < rest))

    def _plan(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per pool: positions of its samples in the selection, and this worker's examples in the order of use."""
        plan = []
        for number, (samples, own, count) in enumerate(self._cuts(epoch)):
            if not self._shuffle:
                indices = np.arange(self._rank, count, self._world_size)
            elif self._shared:
                order = self._random(epoch, number, 0).permutation(count)
                indices = order[self._rank :: self._world_size][:own]
            else:
                indices = self._random(epoch, number, self._rank + 1).permutation(count)
            plan.append((samples, indices))
        return plan

    # -- reading them -------------------------------------------------------------------------------------------------

    def _loaded(self, wanted: list[tuple[np.ndarray, list[np.ndarray]]]) -> Iterator[tuple[Pool, list[np.ndarray]]]:
        """Each pool with its batches; the next pool is read meanwhile."""
        if self._pools == 1:
            for samples, cuts in wanted:
                if self._kept is None:
                    self._kept = self._load(samples)
                yield self._kept, cuts
            return
        with ThreadPoolExecutor(1, thread_name_prefix="sensorium-pool") as reader:
            coming: Future[Pool] | None = None
            for (samples, cuts), following in itertools.zip_longest(wanted, wanted[1:]):
                future = coming or reader.submit(self._load, samples)
                pool = future.result()
                coming = reader.submit(self._load, following[0]) if following is not None else None
                yield pool, cuts
                del pool, future

    def _load(self, samples: np.ndarray) -> Pool:
        pool = self._examples.pool(self._examples.selection.read(samples))
        expected = int(self._counts[samples].sum())
        if len(pool) != expected:
            raise CorruptData(
                f"data set {self._examples.selection.name!r}: {len(samples)} samples gave {len(pool)} examples where their "
                f"shapes promised {expected}. The system's count and pool disagree: report it."
            )
        return pool


def _ahead(taker: ThreadPoolExecutor, pool: Pool, cuts: list[np.ndarray]) -> Iterator[Any]:
    """Gather batches a little ahead of their use."""
    waiting: list[Future[Any]] = []
    try:
        for cut in cuts:
            waiting.append(taker.submit(pool.take, cut))
            if len(waiting) > _BATCHES_AHEAD:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


def to_device(batch: Any, device: torch.device) -> Any:
    """``batch`` with its tensors on ``device``."""
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if hasattr(batch, "to"):
        return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch.to(device)
    return batch
