"""The sweep: every image × codec × quality once, on Ray Data, each block durable as soon as it is done.

The driver plans: it anti-joins the wanted cells with the rows that are there, and cuts what is left into blocks of a few
seconds of work, the longest first. A worker takes a block, reads the images from the lake, runs the cells and hands the
rows to the committer; only counts come back. A run that is stopped, or loses workers, is finished by the same command.
"""

from __future__ import annotations

import heapq
import json
import logging
import math
from collections.abc import Iterator, Sequence
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
from sensorium.jobs import image_metrics
from sensorium.jobs.machine_quality.cells import Cell, error_rows, evaluate_image, key, schema
from sensorium.jobs.retries import map_batches
from sensorium.platform.errors import CorruptData, InvalidSetting, StorageError
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.selection import Selection
    from sensorium.jobs.machine_quality.config import SweepConfig
    from sensorium.platform.storage import Storage

__all__ = ["SweepPlan", "SweepReport", "plan_sweep", "run_sweep", "sweep_rows"]

logger = logging.getLogger(__name__)

#: CPU seconds a megapixel of a codec that has no rows yet
_FIRST_GUESS_S = 0.1
#: so many blocks a core at least, so that the last ones do not leave cores idle
_BLOCKS_PER_CORE = 4
#: a task whose worker dies is tried so often again before the sweep stops
_RETRIES = 3


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        into: the data set with the rows; ``version`` that it has now.
        cells: cells asked for; ``present`` were there already, ``computed`` were run, ``errors`` of those failed.
        cpu_seconds: spent on coding and metrics by those that were run.
        run: id of the run in the lake.
    """

    into: str
    version: int
    cells: int
    present: int
    computed: int
    errors: int
    cpu_seconds: float
    run: str


@dataclass(frozen=True)
class SweepPlan:
    """A sweep, and what of it is still to be done.

    Attributes:
        config: what was asked for.
        source: the data set of images, at its version.
        images: per image: id, image (reference), hash, megapixels.
        cells: how many were asked for, images of the same content counted once.
        missing: those that have no row yet: key, id, hash, codec, quality, megapixels.
    """

    config: SweepConfig
    source: Source
    images: pl.DataFrame
    cells: int
    missing: pl.DataFrame


def plan_sweep(catalog: Catalog, config: SweepConfig) -> SweepPlan:
    """Find out which cells have no row yet. Needs no Ray, reads no payload, changes nothing.

    Raises:
        InvalidSetting: the data set has no such images, or none are chosen.
    """
    selection = catalog.dataset(config.data).select(config.where or None, fields=[config.field])
    images = _images(selection, config)
    wanted = _wanted_cells(images, config)
    done = pl.DataFrame(schema={"key": pl.String})
    if config.into in catalog:
        counted = pl.col("error").is_null() if config.retry_errors else None
        done = catalog[config.into].select(counted, fields=[]).frame().rename({"id": "key"})
    source = Source(selection.name, selection.version)
    return SweepPlan(config, source, images, wanted.height, wanted.join(done, on="key", how="anti"))


def run_sweep(catalog: Catalog, plan: SweepPlan) -> SweepReport:
    """Run the missing cells of a plan; Ray must be running if there are any. Makes the data set for the rows."""
    config = plan.config
    target = catalog.create(
        config.into,
        modality="table",
        fields=list(_columns(config).values()),
        description=f"compression sweep over {plan.source}",
        sources=[plan.source],
        exist_ok=True,
    )
    if config.retry_errors:
        again = pl.col("error").is_not_null() & pl.col("id").is_in(plan.missing["key"].implode())
        target.delete(again, message="errors to be run again")
    run = Run("sweep", "machine_quality", asdict(config), inputs=(plan.source,))
    with catalog.running(run):
        computed, errors, seconds = _run_blocks(catalog, plan, run.id) if plan.missing.height else (0, 0, 0.0)
    version = target.version
    catalog.record(run.ended("finished", outputs=[Source(config.into, version)]))
    present = plan.cells - plan.missing.height
    return SweepReport(config.into, version, plan.cells, present, computed, errors, seconds, run.id)


def _columns(config: SweepConfig) -> dict[str, Field]:
    """Declarations of the columns of the rows."""
    metrics = [image_metrics.get(name) for name in config.metrics]
    return {column.name: ScalarField(column.name, column.type) for column in schema(metrics) if column.name != "id"}


def sweep_rows(catalog: Catalog, config: SweepConfig) -> pl.DataFrame:
    """The rows of the sweep's own cells, out of whatever else its data set holds."""
    selection = catalog.dataset(config.data).select(config.where or None, fields=[config.field])
    keys = _wanted_cells(_images(selection, config), config)["key"]
    return catalog[config.into].select().frame().filter(pl.col("id").is_in(keys.implode()))


def _images(selection: Selection, config: SweepConfig) -> pl.DataFrame:
    """Per image: id, reference, content hash, megapixels. Reads no payload."""
    selection.array_field(config.field)
    rows = selection.rows.rename({config.field: "image"}).filter(pl.col("image").is_not_null())
    if rows.is_empty():
        raise InvalidSetting(
            f"data set {selection.name!r}: no samples with {config.field!r} are chosen. Look at --where."
        )
    part = pl.col("image").struct
    return rows.with_columns(
        hash=pl.concat_str(
            part.field("checksum"),
            part.field("dtype"),
            part.field("shape").list.eval(pl.element().cast(pl.String)).list.join("x"),
            separator="-",
        ),
        megapixels=part.field("shape").list.get(0)
        * part.field("shape").list.get(1, null_on_oob=True).fill_null(1)
        / 1e6,
    )


def _wanted_cells(images: pl.DataFrame, config: SweepConfig) -> pl.DataFrame:
    """All cells of the sweep with their keys; images of the same content are one."""
    metrics = [image_metrics.get(name) for name in config.metrics]
    grid = [(codec, quality) for codec, values in config.qualities.items() for quality in values]
    rows = [
        {
            "key": key(Cell(hash_, codec, quality), metrics),
            "id": identifier,
            "hash": hash_,
            "codec": codec,
            "quality": quality,
            "megapixels": size,
        }
        for identifier, hash_, size in images.select("id", "hash", "megapixels").iter_rows()
        for codec, quality in grid
    ]
    return pl.DataFrame(rows).unique("key", keep="first", maintain_order=True)


def _costs(target: Dataset) -> dict[str, float]:
    """CPU seconds a megapixel per codec, as measured by the rows that are there."""
    seconds = pl.sum_horizontal("encode_cpu_s", "decode_cpu_s", "metric_cpu_s")
    measured = (
        target.scan()
        .filter(pl.col("error").is_null())
        .group_by("codec")
        .agg(rate=seconds.sum() / (pl.col("height") * pl.col("width")).sum() * 1e6)
        .collect()
    )
    return {row["codec"]: row["rate"] for row in measured.iter_rows(named=True) if row["rate"]}


#: per image of a block: its id, its hash, and its (codec, quality) cells
_Block = list[tuple[str, str, list[tuple[str, int]]]]


def _blocks(missing: pl.DataFrame, costs: dict[str, float], seconds: float, cores: int) -> list[_Block]:
    """Cut the missing cells into blocks of about ``seconds`` of work, the longest first; an image's cells stay together."""
    priced = missing.with_columns(
        cost=pl.col("megapixels")
        * pl.col("codec").replace_strict(costs, default=_FIRST_GUESS_S, return_dtype=pl.Float64)
    )
    images = priced.group_by("id", maintain_order=True).agg("hash", "codec", "quality", pl.col("cost").sum())
    total = float(images["cost"].sum())
    count = max(1, min(images.height, max(_BLOCKS_PER_CORE * cores, math.ceil(total / seconds))))
    bins: list[tuple[float, int, _Block]] = [(0.0, index, []) for index in range(count)]
    for row in images.sort("cost", descending=True, maintain_order=True).iter_rows(named=True):
        cost, index, block = heapq.heappop(bins)
        block.append((row["id"], row["hash"][0], list(zip(row["codec"], row["quality"], strict=True))))
        heapq.heappush(bins, (cost + row["cost"], index, block))
    return [block for _, _, block in sorted(bins, key=lambda entry: -entry[0]) if block]


def _cores() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _run_blocks(catalog: Catalog, plan: SweepPlan, run: str) -> tuple[int, int, float]:
    """Run the missing cells on Ray Data; cells, errors and CPU seconds."""
    config, target = plan.config, catalog[plan.config.into]
    work = _Work(
        catalog.dataset(str(plan.source)).storage,
        plan.images.select("id", "image"),
        config.metrics,
        committer.start(target.storage, config.into, sources=[plan.source], run=run),
        _columns(config),
    )
    blocks = _blocks(plan.missing, _costs(target), config.block_seconds, _cores())
    items = [work.item(block) for block in blocks]
    blocks_of_work = ray.data.from_items(items, override_num_blocks=len(items))
    done = map_batches(blocks_of_work, work, retries=_RETRIES, batch_size=None, num_cpus=1)
    computed, errors, seconds = 0, 0, 0.0
    with progress("sweep", total=plan.missing.height, unit="cells") as bar:
        for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
            computed += int(batch["cells"].sum())
            errors += int(batch["errors"].sum())
            seconds += float(batch["cpu_s"].sum())
            bar.advance(int(batch["cells"].sum()))
            if errors:
                bar.note(f"{errors} errors")
    return computed, errors, seconds


class _Work:
    """Runs a block in a worker: images in, rows to the committer, counts out."""

    def __init__(
        self,
        storage: Storage,
        images: pl.DataFrame,
        metrics: Sequence[str],
        commit: Any,
        declared: dict[str, Field],
    ) -> None:
        self._storage, self._metrics, self._commit, self._declared = storage, tuple(metrics), commit, declared
        self._references = dict(images.iter_rows())

    def item(self, block: _Block) -> dict[str, str]:
        """A block, with the references of its images, as one row of a Ray data set."""
        return {"block": json.dumps([(*image, self._references[image[0]]) for image in block])}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_references": {}}  # each item brings its own

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for text in batch["block"]:
            rows = [row for image in json.loads(text) for row in self._rows(*image)]
            metrics = [image_metrics.get(name) for name in self._metrics]
            table = pa.Table.from_pylist(rows, schema=schema(metrics))
            ray.get(self._commit.append.remote(table, self._declared))
            spent = (sum(row[name] or 0.0 for name in ("encode_cpu_s", "decode_cpu_s", "metric_cpu_s")) for row in rows)
            failed = sum(row["error"] is not None for row in rows)
            yield {"cells": [len(rows)], "errors": [failed], "cpu_s": [float(sum(spent))]}

    def _rows(
        self, identifier: str, hash_: str, grid: list[tuple[str, int]], reference: fragments.Reference
    ) -> list[dict[str, Any]]:
        metrics = [image_metrics.get(name) for name in self._metrics]
        cells = [Cell(hash_, codec, quality) for codec, quality in grid]
        try:
            image = fragments.read(self._storage, reference)
        except (CorruptData, StorageError) as error:
            logger.warning("image %r cannot be read: %s", identifier, error)
            return list(error_rows(cells, metrics, error, image_id=identifier))
        return list(evaluate_image(image, cells, metrics, image_id=identifier))
