"""The sweep: every picture × codec × quality once, as Ray tasks, each block durable as soon as it is done.

The driver plans (:mod:`.plan`) and deals out blocks of a few seconds, the longest first. A worker reads the pictures from
the lake, runs the cells and leaves their rows in Ray's object store; the driver hands them on to the committer without
looking at them, so that neither waits for the other. Only counts come to the driver. A run that is stopped is finished by
the same command.

A block whose worker dies, hangs or runs out of memory is tried once more, then halved, until the cell that kills its worker
is alone; after :data:`_TRIES` deaths it becomes a row with an error, and nothing else is lost.

Plain tasks, not Ray Data: a block costs 4 ms of the driver's time for 40 to 100 ms, and blocks can be cut anew
(``python -m tests.benchmarks sweep``).
"""

from __future__ import annotations

import faulthandler
import functools
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import ray

from sensorium.actors import committer
from sensorium.catalog import fragments
from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.lineage import Run
from sensorium.jobs.cores import one_core
from sensorium.jobs.machine_quality import material
from sensorium.jobs.machine_quality.cells import (
    Cell,
    Measures,
    Result,
    Subject,
    evaluate,
    failed,
    object_columns,
    schema,
)
from sensorium.jobs.machine_quality.material import Extent
from sensorium.jobs.machine_quality.plan import (
    Block,
    SweepPlan,
    Unit,
    blocks,
    plan_sweep,
    subjects,
    wanted_cells,
)
from sensorium.platform.errors import (
    CorruptData,
    InvalidSample,
    InvalidSetting,
    StorageError,
    UnreadableFile,
    WorkerFailed,
    ours,
)
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.machine_quality.config import SweepConfig
    from sensorium.platform.storage import Storage

__all__ = ["SweepReport", "plan_sweep", "run_sweep", "sweep_rows"]

logger = logging.getLogger(__name__)

#: a cell that has killed so many workers is given up
_TRIES = 3
#: blocks under way for each core: one runs, one waits, one is being committed; a core without work costs a new worker process
_AHEAD = 3


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        into: the data set with the rows; ``version`` that it has now.
        cells: cells asked for; ``present`` were there already, ``computed`` were run, ``errors`` of those failed.
        cpu_seconds: spent on coding, metrics and tasks by those that were run.
        run: id of the run in the lake.
        quarantined: of the errors, cells whose worker died again and again.
    """

    into: str
    version: int
    cells: int
    present: int
    computed: int
    errors: int
    cpu_seconds: float
    run: str
    quarantined: int = 0


def run_sweep(catalog: Catalog, plan: SweepPlan) -> SweepReport:
    """Run the missing cells of a plan; Ray must be running if there are any. Makes the data sets for the rows."""
    config = plan.config
    target = catalog.create(
        config.into,
        modality="table",
        fields=list(_columns(plan.measures).values()),
        description=f"compression sweep over {plan.source}",
        sources=[plan.source],
        exist_ok=True,
    )
    if config.retry_errors:
        again = pl.col("error").is_not_null() & pl.col("id").is_in(plan.missing["key"].implode())
        target.delete(again, message="errors to be run again")
    run = Run("sweep", "machine_quality", asdict(config), inputs=(plan.source,))
    with catalog.running(run):
        done = _Driver(catalog, plan, run.id).run() if plan.missing.height else _Done()
    version = target.version
    catalog.record(run.ended("finished", outputs=[Source(config.into, version)]))
    present = plan.cells - plan.missing.height
    return SweepReport(
        config.into, version, plan.cells, present, done.cells, done.errors, done.cpu_s, run.id, done.quarantined
    )


def sweep_rows(catalog: Catalog, config: SweepConfig) -> pl.DataFrame:
    """The rows of the sweep's own cells, out of whatever else its data set holds."""
    measures = Measures.open(config.metrics, config.tasks)
    keys = wanted_cells(subjects(catalog.dataset(config.data), config, measures), config, measures)["key"]
    return catalog[config.into].select().frame().filter(pl.col("id").is_in(keys.implode()))


def objects_name(into: str, task: str) -> str:
    """Name of the data set with the rows of a task's objects."""
    return f"{into}_{task}"


def _columns(measures: Measures) -> dict[str, Field]:
    """Declarations of the columns of the rows."""
    return {column.name: ScalarField(column.name, column.type) for column in schema(measures) if column.name != "id"}


# -- the driver --------------------------------------------------------------------------------------------------------


@dataclass
class _Done:
    """What has been done so far; also what a worker says of a block."""

    cells: int = 0
    errors: int = 0
    cpu_s: float = 0.0
    quarantined: int = 0

    def add(self, other: _Done) -> None:
        self.cells += other.cells
        self.errors += other.errors
        self.cpu_s += other.cpu_s
        self.quarantined += other.quarantined


@dataclass(frozen=True)
class _Try:
    """A block, and how many workers it has lost."""

    block: Block
    lost: int = 0

    @property
    def cost(self) -> float:
        return sum(unit.cost for unit in self.block)

    def again(self) -> list[_Try]:
        """What to run now that its worker is lost: all of it once more, then its halves."""
        units = [half for unit in self.block for half in (unit.halves() if len(self.block) == 1 else [unit])]
        if self.lost == 0 or len(units) == 1:
            return [_Try(self.block, self.lost + 1)]
        middle = len(units) // 2
        # of halves the first death counts as one: a cell by itself still has its tries
        return [_Try(tuple(part), 1) for part in (units[:middle], units[middle:])]

    @property
    def hopeless(self) -> bool:
        return self.lost >= _TRIES and len(self.block) == 1 and len(self.block[0].cells) == 1


class _Driver:
    """Deals out blocks and sees to it that each becomes durable."""

    def __init__(self, catalog: Catalog, plan: SweepPlan, run: str) -> None:
        self._plan, self._run = plan, run
        self._lost = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.LocalRayletDiedError,
        )
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._work = ray.remote(num_cpus=1, max_retries=0, num_returns=2 + len(plan.measures.tasks))(_run_block)
        dataset = catalog.dataset(str(plan.source))
        config = plan.config
        context = _Context(dataset.storage, plan.subjects.layout, config.metrics, config.tasks, config.cell_seconds)
        self._context = ray.put(context)
        self._rows = self._committer(catalog, config.into, _columns(plan.measures))
        self._objects = [
            self._committer(catalog, objects_name(config.into, task.name), _object_fields(object_columns(scorer)))
            for task, scorer in plan.measures.tasks
        ]
        self._frame = plan.subjects.frame

    def _committer(self, catalog: Catalog, name: str, fields: Mapping[str, Field]) -> Callable[..., Any]:
        target = catalog.create(
            name, modality="table", fields=list(fields.values()), sources=[self._plan.source], exist_ok=True
        )
        actor = committer.start(target.storage, name, sources=[self._plan.source], run=self._run)
        declared = dict(fields)
        return lambda rows, *after: actor.append.remote(rows, declared, *after)

    def run(self) -> _Done:
        """Run all blocks; what was done."""
        done = _Done()
        waiting = deque(_Try(block) for block in blocks(self._plan, self._cores))
        running: dict[Any, tuple[_Try, Any]] = {}
        with progress("sweep", total=self._plan.cpu_seconds, unit="CPU s") as bar:
            while waiting or running:
                while waiting and len(running) < _AHEAD * self._cores:
                    attempt = waiting.popleft()
                    counts, landed = self._start(attempt)
                    running[landed] = attempt, counts
                (ready,), _ = ray.wait(list(running), num_returns=1)
                attempt, counts = running.pop(ready)
                found = self._ended(attempt, ready, counts, waiting)
                if found is not None:
                    done.add(found)
                    bar.advance(attempt.cost)
                    bar.note(f"{done.cells} of {self._plan.missing.height} cells, {done.errors} errors")
        return done

    def _start(self, attempt: _Try) -> tuple[Any, Any]:
        """Have a block run and its rows committed; references of its counts and of the version that will hold it."""
        items = [_Item.of(self._plan, self._frame.row(unit.subject, named=True), unit) for unit in attempt.block]
        counts, rows, *objects = self._work.remote(self._context, items, hopeless=attempt.hopeless)
        # objects first: a cell that has its row has its objects too
        landed = [append(found) for append, found in zip(self._objects, objects, strict=True)]
        return counts, self._rows(rows, *landed)

    def _ended(self, attempt: _Try, landed: Any, counts: Any, waiting: deque[_Try]) -> _Done | None:
        """What a block did; None if its worker was lost and it will be run again."""
        try:
            ray.get(landed)
            found: _Done = ray.get(counts)
        except self._lost as error:
            self._retry(attempt, waiting, error)
            return None
        except ray.exceptions.RayError as error:
            raise ours(error) or WorkerFailed(f"a block of the sweep failed: {error}") from error
        return found

    def _retry(self, attempt: _Try, waiting: deque[_Try], error: BaseException) -> None:
        if attempt.hopeless:
            raise WorkerFailed(
                "workers are lost even by blocks that run nothing: the cluster is not healthy. See its logs."
            ) from error
        cells = sum(len(unit.cells) for unit in attempt.block)
        logger.warning("a worker was lost (%s); its %d cells are run again", type(error).__name__, cells)
        waiting.extendleft(reversed(attempt.again()))


def _object_fields(columns: Mapping[str, str]) -> dict[str, Field]:
    return {name: ScalarField(name, pa.type_for_alias(kind)) for name, kind in columns.items() if name != "id"}


# -- in a worker -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Context:
    """What all blocks of a sweep share."""

    storage: Storage
    layout: str
    metrics: tuple[str, ...]
    tasks: tuple[str, ...]
    cell_seconds: float


@dataclass(frozen=True)
class _Item:
    """Cells of one subject, with what a worker needs to know of it."""

    image_id: str
    hash: str
    reference: fragments.Reference
    extent: Extent
    labels: Mapping[str, Any]
    cells: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, plan: SweepPlan, row: Mapping[str, Any], unit: Unit) -> _Item:
        labels = {name: row[name] for name in plan.subjects.labels}
        return cls(row["id"], row["hash"], row["image"], plan.subjects.extent(row), labels, unit.cells)


@functools.lru_cache(maxsize=4)
def _measures(metrics: tuple[str, ...], tasks: tuple[str, ...]) -> Measures:
    """Metrics and scorers of this process: a model is loaded once."""
    return Measures.open(metrics, tasks)


def _run_block(context: _Context, items: Sequence[_Item], *, hopeless: bool) -> Any:
    """Counts, rows, and the rows of each task's objects."""
    measures = _measures(context.metrics, context.tasks)
    results: list[Result] = []
    with one_core():
        for item in items:
            results += _given_up(item, measures) if hopeless else _results(context, item, measures)
    rows = [result.row for result in results]
    tables = [_table(rows, schema(measures))]
    for task, scorer in measures.tasks:
        columns = {name: pa.type_for_alias(kind) for name, kind in object_columns(scorer).items()}
        found = [row for result in results for row in result.objects.get(task.name, ())]
        tables.append(_table(found, pa.schema(list(columns.items()))))
    spent = [row[name] or 0.0 for row in rows for name in _SPENT]
    errors = sum(row["error"] is not None for row in rows)
    return _Done(len(rows), errors, float(sum(spent)), len(rows) if hopeless else 0), *tables


def _table(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    """Rows as a table; through Polars, for Arrow would import pandas first, a quarter of a second of each worker."""
    kinds = pl.Schema(columns)
    frame = pl.from_dicts(rows, schema=kinds) if rows else kinds.to_frame()
    return frame.to_arrow().cast(columns)


_SPENT = ("encode_cpu_s", "decode_cpu_s", "metric_cpu_s", "task_cpu_s")


def _results(context: _Context, item: _Item, measures: Measures) -> list[Result]:
    cells = [Cell(item.hash, codec, quality, gop, item.extent) for codec, quality, gop in item.cells]
    try:
        array = fragments.read(context.storage, item.reference)
        pictures = material.pictures(array, context.layout, item.extent)
    except (CorruptData, StorageError, InvalidSample, InvalidSetting, UnreadableFile) as error:
        logger.warning("image %r cannot be coded: %s", item.image_id, error)
        return [failed(cell, measures, error, image_id=item.image_id) for cell in cells]
    subject = Subject(item.image_id, pictures, item.labels, temporal=context.layout in ("frames", "stream"))
    # an encoder that hangs inside the process can be ended with the process only; the driver then finds the cell
    limit = context.cell_seconds * len(cells)
    faulthandler.dump_traceback_later(limit, exit=True)
    try:
        return list(evaluate(subject, cells, measures))
    finally:
        faulthandler.cancel_dump_traceback_later()


def _given_up(item: _Item, measures: Measures) -> list[Result]:
    """The row of a cell that kills its workers."""
    ((codec, quality, gop),) = item.cells
    cell = Cell(item.hash, codec, quality, gop, item.extent)
    error = WorkerFailed(
        f"the worker died or hung {_TRIES} times on this cell: {codec} at {quality}. It is in quarantine; run it again with "
        "--retry-errors once the encoder is mended."
    )
    return [failed(cell, measures, error, image_id=item.image_id)]
