"""The rows of a sweep, read for a report: good cells that can be compared, failed ones, and objects of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from sensorium.jobs.machine_quality.report.numbers import Number, comparable, numbers
from sensorium.platform.errors import InvalidSample, InvalidSetting

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog

__all__ = ["SweepRows", "prepared", "read"]

_CELL = ("codec", "image_id", "quality")
#: shown of an error's text when errors are counted: messages name ids and sizes further on
_REASON = 200


#: of metrics, these are shown first: the ones that readers of a summary know
_KNOWN_BEST = ("psnr_y", "ssim")


@dataclass(frozen=True)
class SweepRows:
    """What a report is about.

    Attributes:
        name: of the data set, NAME@VERSION.
        cells: good rows, one a cell, with ``codec``, ``image_id``, ``source_id`` of :func:`.numbers.comparable`.
        failed: rows with an error, likewise.
        numbers: of the cells; those that no cell has are left out.
        objects: by task, its objects joined with the metrics of their cells (columns of objects come first and keep
            their names; columns of cells that have the same name are left out).
    """

    name: str
    cells: pl.DataFrame
    failed: pl.DataFrame
    numbers: tuple[Number, ...]
    objects: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def codecs(self) -> list[str]:
        """Of the cells, by name."""
        return sorted(self.cells["codec"].unique())

    @property
    def main(self) -> list[Number]:
        """Numbers that have curves and BD-rates: tasks first, since they are what a sweep is for."""
        chosen = (number for number in self.numbers if number.main)
        return sorted(chosen, key=lambda number: (not number.is_task, number.column not in _KNOWN_BEST))

    def errors(self) -> pl.DataFrame:
        """``codec, error, cells`` of what failed, the commonest first."""
        reason = pl.col("error").str.head(_REASON)
        return (
            self.failed.group_by("codec", reason).agg(cells=pl.len()).sort("cells", "codec", descending=[True, False])
        )


def read(catalog: Catalog, name: str, where: str = "") -> SweepRows:
    """The rows of the data set ``name`` (``NAME[@VERSION]``) for which the SQL ``where`` holds.

    Raises:
        InvalidSetting: it holds no rows of a sweep.
        InvalidSample: the rows mix definitions; select with ``where``.
    """
    dataset = catalog.dataset(name)
    absent = {"metric_definitions", "bits_per_pixel", "codec", "quality", "error"} - set(dataset.fields)
    if absent:
        raise InvalidSetting(
            f"data set {dataset.name!r} holds no rows of a sweep: it has no {min(absent)!r}. Name the data set of --into."
        )
    frame = dataset.select(where or None).frame()
    if frame.is_empty():
        raise InvalidSetting(f"data set {dataset.name!r} has no rows here. Look at --where.")
    try:
        known = numbers(frame)
    except InvalidSample as error:
        raise InvalidSample(f'{error} With: --where "...".') from error
    tasks = dict.fromkeys(number.owner for number in known if number.is_task)
    objects = {
        task: catalog[f"{dataset.name}_{task}"].select().frame()
        for task in tasks
        if f"{dataset.name}_{task}" in catalog
    }
    return prepared(f"{dataset.name}@{dataset.version}", frame, objects)


def prepared(name: str, frame: pl.DataFrame, objects: Mapping[str, pl.DataFrame] | None = None) -> SweepRows:
    """Rows and objects as a report takes them.

    A cell that was run for several sets of metrics has several rows: they become one.
    """
    frame = comparable(frame)
    good = frame.filter(pl.col("error").is_null())
    known = tuple(number for number in numbers(frame) if good[number.column].is_not_null().any())
    cells = good.group_by(_CELL, maintain_order=True).agg(pl.all().drop_nulls().first()).sort(_CELL)
    joined = {task: _joined(found, good, cells, task) for task, found in (objects or {}).items()}
    return SweepRows(
        name,
        cells,
        frame.filter(pl.col("error").is_not_null()),
        known,
        {task: found for task, found in joined.items() if found.height},
    )


def _joined(objects: pl.DataFrame, good: pl.DataFrame, cells: pl.DataFrame, task: str) -> pl.DataFrame:
    """Objects with the columns of their cells; each object of a cell once."""
    where = good.select(pl.col("id").alias("cell"), *_CELL)
    own = objects.select(pl.exclude("id", "image_id", "codec", "quality", "extent", "gop"))
    placed = own.join(where, on="cell", how="inner").unique([*_CELL, "frame", "object"], maintain_order=True)
    # the number of the cell and that of the object have the same meaning: the object's takes its place
    renamed = {column: f"{task}_{column}" for column in own.columns if f"{task}_{column}" in cells.columns}
    rest = cells.select(pl.exclude(*renamed.values(), *(set(own.columns) - set(renamed) - {"cell"})))
    return placed.rename(renamed).join(rest, on=list(_CELL), how="left").sort(*_CELL, "frame", "object")
