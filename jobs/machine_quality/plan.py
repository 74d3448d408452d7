"""What a sweep has to do: the cells that have no row yet, what they will cost, and how they are cut into blocks.

Planning reads the table of the images and the table of the rows; no payload, and it needs no cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.catalog.declaration import Source
from sensorium.jobs import codecs
from sensorium.jobs.machine_quality import material
from sensorium.jobs.machine_quality.cells import Measures, keyed
from sensorium.jobs.machine_quality.material import Extent
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.selection import Selection
    from sensorium.jobs.machine_quality.config import SweepConfig

__all__ = ["Block", "Costs", "Subjects", "SweepPlan", "Unit", "blocks", "measured_costs", "plan_sweep", "subjects"]

#: a block is at most such a part of what is left for a core, and at least such a part of the usual one
_BLOCKS_PER_CORE, _SMALLEST_BLOCK = 2, 0.1
#: what rows must have to tell what cells cost; those of older versions may not
_COST_COLUMNS = ("height", "width", "frames", "encode_cpu_s", "decode_cpu_s", "metric_cpu_s", "task_cpu_s")
_CELLS = {"key": pl.String, "subject": pl.Int64, "codec": pl.String, "quality": pl.Int64, "gop": pl.Int64}
#: megapixels that are assumed of a frame of an encoded video, whose size is not known before it is read
_UNKNOWN_MEGAPIXELS = 1.0


@dataclass(frozen=True)
class Unit:
    """Cells of one subject that are run one after the other.

    Attributes:
        subject: its number in :class:`Subjects`.
        cells: codec, quality and GOP of each.
        cost: CPU seconds, estimated.
    """

    subject: int
    cells: tuple[tuple[str, int, int], ...]
    cost: float

    def halves(self) -> list[Unit]:
        """The same cells in two units; in one, if there is only one."""
        middle = len(self.cells) // 2
        share = self.cost / len(self.cells)
        parts = (self.cells[:middle], self.cells[middle:])
        return [Unit(self.subject, part, share * len(part)) for part in parts if part]


Block = tuple[Unit, ...]


@dataclass(frozen=True)
class Subjects:
    """What is coded: a frame with a row for each sample, or each tile of one.

    Attributes:
        layout: what the arrays are to a codec (:data:`.material.LAYOUTS`).
        frame: id, image (reference of the array), hash, region, first, count, megapixels (of all frames together), extent
            (region, first and count as text), and the fields that tasks look at.
        labels: names of those fields.
    """

    layout: str
    frame: pl.DataFrame
    labels: tuple[str, ...] = ()

    def extent(self, row: Mapping[str, Any]) -> Extent:
        """The part of the sample that a row of ``frame`` speaks of."""
        region = row["region"]
        return Extent(tuple(region) if region is not None else None, row["first"], row["count"])


@dataclass(frozen=True)
class Costs:
    """CPU seconds a megapixel.

    Attributes:
        coding: by codec, to encode and decode.
        measuring: all metrics and tasks together.
        learned: codecs whose cost comes from rows that are there, not from a first guess.
    """

    coding: Mapping[str, float]
    measuring: float
    learned: frozenset[str] = frozenset()

    def of(self, codec: str) -> float:
        """Of a cell of this codec."""
        return self.coding[codec] + self.measuring


@dataclass(frozen=True)
class SweepPlan:
    """A sweep, and what of it is still to be done.

    Attributes:
        config: what was asked for.
        source: the data set of images, at its version.
        measures: metrics and tasks, opened.
        subjects: what is coded.
        cells: how many were asked for, samples of the same content counted once.
        missing: those that have no row yet: key, subject, codec, quality, gop.
        costs: CPU seconds a megapixel.
    """

    config: SweepConfig
    source: Source
    measures: Measures
    subjects: Subjects
    cells: int
    missing: pl.DataFrame
    costs: Costs

    @property
    def cpu_seconds(self) -> float:
        """What the missing cells will cost, estimated."""
        return float(self.priced()["cost"].sum())

    def priced(self) -> pl.DataFrame:
        """The missing cells with ``cost``, CPU seconds."""
        rates = {name: self.costs.of(name) for name in self.config.qualities}
        sizes = self.subjects.frame.select("megapixels").with_row_index("subject")
        priced = self.missing.with_columns(pl.col("subject").cast(pl.UInt32)).join(sizes, on="subject", how="left")
        rate = pl.col("codec").replace_strict(rates, return_dtype=pl.Float64)
        return priced.with_columns(cost=pl.col("megapixels") * rate)


def plan_sweep(catalog: Catalog, config: SweepConfig) -> SweepPlan:
    """Find out which cells have no row yet. Needs no Ray, reads no payload, changes nothing.

    Raises:
        InvalidSetting: the data set has no such images, or none are chosen.
    """
    measures = Measures.open(config.metrics, config.tasks)
    dataset = catalog.dataset(config.data)
    found = subjects(dataset, config, measures)
    wanted = wanted_cells(found, config, measures)
    done = pl.DataFrame(schema={"key": pl.String})
    target = catalog.dataset(config.into) if config.into in catalog else None
    if target is not None:
        counted = pl.col("error").is_null() if config.retry_errors else None
        done = target.select(counted, fields=[]).frame().rename({"id": "key"})
    missing = wanted.join(done, on="key", how="anti")
    source = Source(dataset.name, dataset.version)
    costs = measured_costs(target, config, measures)
    return SweepPlan(config, source, measures, found, wanted.height, missing, costs)


def subjects(dataset: Dataset, config: SweepConfig, measures: Measures) -> Subjects:
    """What of a data set is coded. Reads no payload."""
    labels = tuple(dict.fromkeys(name for task, _ in measures.tasks for name in task.fields if name in dataset.fields))
    if labels and config.tile:
        raise InvalidSetting(
            f"tasks look at {', '.join(labels)} of whole pictures: leave --tile out, or the tasks that need labels."
        )
    field = config.field or _first_pictures(dataset)
    selection = dataset.select(config.where or None, fields=list(dict.fromkeys([field, *labels])))
    layout = _layout(selection, field, config)
    rows = selection.rows.rename({field: "image"}).filter(pl.col("image").is_not_null())
    if rows.is_empty():
        raise InvalidSetting(f"data set {selection.name!r}: no samples with {field!r} are chosen. Look at --where.")
    part = pl.col("image").struct
    shape = part.field("shape").list.eval(pl.element().cast(pl.String)).list.join("x")
    hashed = rows.with_columns(shape=shape).with_columns(
        hash=pl.concat_str(part.field("checksum"), part.field("dtype"), "shape", separator="-")
    )
    # a million samples have a few shapes
    parts = [
        {"shape": text, **_measured(extent, layout, sizes), "extent": extent.text}
        for text in hashed["shape"].unique().to_list()
        for sizes in [tuple(map(int, text.split("x")))]
        for extent in _extents(layout, sizes, config)
    ]
    extents = pl.DataFrame(parts, schema_overrides={"region": pl.List(pl.Int64)})
    joined = hashed.join(extents, on="shape", how="left", maintain_order="left_right")
    return Subjects(layout, joined.drop("shape"), labels)


def _first_pictures(dataset: Dataset) -> str:
    """The first array field that a codec can take."""
    for name, field in dataset.declaration.arrays.items():
        if field.dims in material.LAYOUTS and field.dims != "B":
            return name
    raise InvalidSetting(
        f"data set {dataset.name!r} has no field of pictures ({', '.join(f'[{known}]' for known in material.LAYOUTS)}). "
        "Choose another data set, or name a --field."
    )


def _layout(selection: Selection, name: str, config: SweepConfig) -> str:
    dims = selection.array_field(name).dims
    if dims not in material.LAYOUTS:
        raise InvalidSetting(
            f"data set {selection.name!r}: arrays [{dims}] of {name!r} are no pictures. A sweep takes "
            f"{', '.join(f'[{known}]' for known in material.LAYOUTS)}; choose another --field."
        )
    layout = material.LAYOUTS[dims]
    if layout == "still" and (config.gops or config.frames):
        raise InvalidSetting(
            f"data set {selection.name!r} holds stills: --gop and --frames are for video and cubes. Leave them out."
        )
    if layout == "stream" and not config.frames:
        raise InvalidSetting("encoded video needs --frames FIRST:END, since its length is not in the catalog.")
    return layout


def _extents(layout: str, shape: tuple[int, ...], config: SweepConfig) -> list[Extent]:
    height, width, frames = material.shape_of(layout, shape)
    first, end = config.frames or (0, frames)
    if layout != "stream":
        end = min(end, frames)
    if layout != "still" and end <= first:
        raise InvalidSetting(f"--frames {first}:{end}: a sample has {frames} frames or bands only.")
    if layout == "stream" and config.tile:
        raise InvalidSetting("encoded video cannot be cut into tiles. Leave --tile out.")
    return [Extent(region, first, end - first) for region in material.regions(height, width, config.tile)]


def _measured(extent: Extent, layout: str, shape: tuple[int, ...]) -> dict[str, Any]:
    height, width, _ = material.shape_of(layout, shape)
    if extent.region is not None:
        height, width = extent.region[2:]
    area = height * width / 1e6 if layout != "stream" else _UNKNOWN_MEGAPIXELS
    region = None if extent.region is None else list(extent.region)
    return {
        "region": region,
        "first": extent.first,
        "count": extent.count,
        "megapixels": area * max(1, extent.count),
    }


def wanted_cells(found: Subjects, config: SweepConfig, measures: Measures) -> pl.DataFrame:
    """All cells of the sweep with their keys; samples of the same content are one."""
    gops = (config.gops or (1,)) if found.layout != "still" else (0,)
    grid = [
        (codec, quality, gop)
        for codec, values in config.qualities.items()
        for quality in values
        for gop in gops
        if gop <= 1 or codecs.get(codec).clips is not None
    ]
    hashes, extents = found.frame["hash"].to_list(), found.frame["extent"].to_list()
    columns = []
    for place, (codec, quality, gop) in enumerate(grid):  # a column at a time: rows of millions of cells take gigabytes
        of = keyed(codec, quality, gop, measures)
        keys = pl.Series("key", map(of, hashes, extents), pl.String)
        point = [
            pl.lit(codec).alias("codec"),
            pl.lit(quality, pl.Int64).alias("quality"),
            pl.lit(gop, pl.Int64).alias("gop"),
        ]
        columns.append(keys.to_frame().with_row_index("subject").with_columns(*point, place=pl.lit(place)))
    if not columns:
        return pl.DataFrame(schema=_CELLS)
    cells = pl.concat(columns).unique("key", keep="first", maintain_order=True).sort("subject", "place")
    return cells.select(pl.col(name).cast(kind) for name, kind in _CELLS.items())


def measured_costs(target: Dataset | None, config: SweepConfig, measures: Measures) -> Costs:
    """CPU seconds a megapixel: as the rows that are there measured it, else as codecs, metrics and tasks guess."""
    coding = {name: codecs.get(name).cost for name in config.qualities}
    measuring = sum(metric.cost for metric in measures.metrics) + sum(task.cost for task, _ in measures.tasks)
    if target is None or not set(_COST_COLUMNS) <= set(target.fields):
        return Costs(coding, measuring)
    pixels = (pl.col("height") * pl.col("width") * pl.col("frames")).sum() / 1e6
    good = target.scan().filter(pl.col("error").is_null())
    by_codec = good.group_by("codec").agg(rate=(pl.col("encode_cpu_s") + pl.col("decode_cpu_s")).sum() / pixels)
    learned = {row["codec"]: row["rate"] for row in by_codec.collect().iter_rows(named=True) if row["rate"]}
    alike = good.filter(pl.col("metric_definitions") == measures.definitions)
    spent = alike.select(rate=(pl.col("metric_cpu_s") + pl.col("task_cpu_s")).sum() / pixels).collect()["rate"][0]
    known = {name: rate for name, rate in learned.items() if name in coding}
    return Costs({**coding, **known}, spent or measuring, frozenset(known))


def blocks(plan: SweepPlan, cores: int) -> list[Block]:
    """Cut the missing cells into blocks of about ``block_seconds`` of work, the longest first.

    Cells of one subject and codec stay together, since they share the reading of the picture and the batches of metrics,
    unless they alone are more than a block.
    """
    units = []
    grouped = plan.priced().group_by("subject", "codec", maintain_order=True)
    for (subject, _), cells in grouped.agg("quality", "gop", pl.col("cost")).group_by(
        "subject", "codec", maintain_order=True
    ):
        row = cells.row(0, named=True)
        points = list(zip([row["codec"]] * len(row["quality"]), row["quality"], row["gop"], strict=True))
        units += _cut(int(str(subject)), points, sum(row["cost"]), plan.config.block_seconds)
    found: list[Block] = []
    held: list[Unit] = []
    left = sum(unit.cost for unit in units)
    limit = _block_cost(left, plan.config.block_seconds, cores)
    for unit in sorted(units, key=lambda unit: -unit.cost):
        held.append(unit)
        cost = sum(one.cost for one in held)
        if cost >= limit:
            found.append(_by_subject(held))
            held, left = [], left - cost
            limit = _block_cost(left, plan.config.block_seconds, cores)
    return [*found, _by_subject(held)] if held else found


def _block_cost(left: float, seconds: float, cores: int) -> float:
    """Work for the next block: smaller towards the end, so that no core waits long for another's last block."""
    return min(seconds, max(_SMALLEST_BLOCK * seconds, left / (_BLOCKS_PER_CORE * cores)))


def _by_subject(units: list[Unit]) -> Block:
    """In such an order that a picture is read once."""
    return tuple(sorted(units, key=lambda unit: unit.subject))


def _cut(subject: int, points: Sequence[tuple[str, int, int]], cost: float, seconds: float) -> list[Unit]:
    """Units of at most about ``seconds``."""
    parts = min(len(points), max(1, math.ceil(cost / seconds)))
    share = cost / len(points)
    cuts = [tuple(points[begin::parts]) for begin in range(parts)]
    return [Unit(subject, cut, share * len(cut)) for cut in cuts]
