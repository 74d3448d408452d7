"""The work that faults strike: an import, a sweep, a fit, a prediction, as a user's commands, judged by the lake."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sensorium.catalog import Catalog
from sensorium.jobs.water_pollutants import simulator
from tests.chaos.outcome import Ledger

__all__ = ["FIT", "INGEST", "LONG_SWEEP", "PREDICT", "SWEEP", "Work", "sweep_of"]

_FILES, _IMAGES = 320, 512
_QUALITIES = tuple(range(5, 95, 3))
_FIT = ["network=lstm", "optimiser=adam", "lr=0.003", "stride=24", "folds=4", "validation=0.34", "batch_size=32"]
_FIT += ["epochs=8", "checkpoint_steps=5", "patience=0"]


@dataclass(frozen=True)
class Work:
    """A command, and how it is judged.

    Attributes:
        name: for people.
        prepare: what has to be in the lake, and beside it, before.
        words: of the command, given the lake's folder.
        begun: whether the lake shows that it is under way.
        ledger: what is there of what should be.
        nodes: that it needs to go on.
    """

    name: str
    prepare: Callable[[Catalog, Path], None]
    words: Callable[[Path], list[object]]
    begun: Callable[[Catalog], bool]
    ledger: Callable[[Catalog], Ledger]
    nodes: int = 1


def rows_of(catalog: Catalog, name: str) -> int:
    """Rows of a data set that may not be there yet."""
    return len(catalog[name]) if name in catalog else 0


def pixels(seed: int, side: int) -> np.ndarray:
    """[side, side, 3] of uint8."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


# -- ingest ------------------------------------------------------------------------------------------------------------


def _files(catalog: Catalog, beside: Path) -> None:
    from PIL import Image

    folder = beside / "files"
    folder.mkdir()
    content = io.BytesIO()
    Image.fromarray(pixels(0, 640)).save(content, "png", compress_level=1)
    for number in range(_FILES):
        (folder / f"{number:03d}.png").write_bytes(content.getvalue())


def _ingested(catalog: Catalog) -> Ledger:
    dataset = catalog["files"]
    expected = {f"{number:03d}.png" for number in range(_FILES)}
    found = [Path(name).name for name in dataset.select().frame()["id"]]
    found = [name if name.endswith(".png") else f"{name}.png" for name in found]
    return Ledger.of(dataset, expected, found)


INGEST = Work(
    "an import",
    _files,
    lambda beside: ["catalog", "ingest", beside / "files", "--dataset", "files", "--ray", "--batch", 8],
    lambda catalog: rows_of(catalog, "files") > 0,
    _ingested,
)


# -- sweep -------------------------------------------------------------------------------------------------------------


def sweep_of(pictures: int) -> Work:
    """A sweep over so many pictures, 30 cells each."""
    names = [f"p{number}" for number in range(pictures)]

    def photos(catalog: Catalog, beside: Path) -> None:
        dataset = catalog.create("photos", modality="image")
        dataset.append([{"id": name, "image": pixels(number, 256)} for number, name in enumerate(names)])

    def swept(catalog: Catalog) -> Ledger:
        dataset = catalog["rd"]
        frame = dataset.select().frame()
        expected = itertools.product(names, ["jpeg"], _QUALITIES)
        failed = frame.filter(pl.col("error").is_not_null()).height
        return Ledger.of(dataset, expected, frame.select("image_id", "codec", "quality").rows(), failed)

    words: list[object] = ["sweep", "machine_quality", "--data", "photos", "--into", "rd", "--codecs", "jpeg"]
    words += ["--metrics", "psnr,ssim", "--qualities", ",".join(map(str, _QUALITIES)), "--block-seconds", 0.1]
    return Work("a sweep", photos, lambda _: words, lambda catalog: rows_of(catalog, "rd") > 0, swept)


SWEEP, LONG_SWEEP = sweep_of(12), sweep_of(200)


# -- fit ---------------------------------------------------------------------------------------------------------------


def _water(catalog: Catalog, beside: Path) -> None:
    dataset = catalog.create("water", modality="series", fields=list(simulator.FIELDS))
    dataset.append(simulator.samples(liquids=("ammonia", "hydrochloric_acid"), measurements=6))


def _checkpointed(catalog: Catalog) -> bool:
    storage = catalog.storage
    runs = storage.folders("checkpoints")
    return any(name.startswith("000-") for run in runs for name in storage.files("checkpoints", run))


def _fitted(catalog: Catalog) -> Ledger:
    """Models: one, of one finished run, whose curves have each step once."""
    models = catalog.models()
    runs = catalog.runs().filter(pl.col("kind") == "fit")
    complete = [run for run in runs.filter(pl.col("state") == "finished")["run"] if run]
    steps = [
        (record["step"], record["name"]) for run in complete for record in catalog.records(run).iter_rows(named=True)
    ]
    return Ledger(
        expected=1,
        lost=int(models.height < 1 or not complete),
        twice=max(0, models.height - 1) + max(0, runs.height - 1) + len(steps) - len(set(steps)),
        failed=int(not steps),
    )


FIT = Work(
    "a fit",
    _water,
    lambda beside: [
        *("fit", "water_pollutants", "--data", "water", "--workers", 2, "--track", "off", "--once", "--name", "small"),
        *(word for setting in _FIT for word in ("--set", setting)),
    ],
    _checkpointed,
    _fitted,
    nodes=2,
)


# -- predict -----------------------------------------------------------------------------------------------------------


def _grey(catalog: Catalog, beside: Path) -> None:
    dataset = catalog.create("grey", modality="image")
    for begin in range(0, _IMAGES, 64):
        images = [pixels(number, 160)[:, :, :1] for number in range(begin, begin + 64)]
        dataset.append([{"id": f"g{begin + n}", "image": image} for n, image in enumerate(images)])


def _predicted(catalog: Catalog) -> Ledger:
    dataset = catalog["opened"]
    frame = dataset.select().frame()
    failed = frame.filter(pl.col("error").is_not_null()).height
    return Ledger.of(dataset, [f"g{number}" for number in range(_IMAGES)], frame["id"], failed)


PREDICT = Work(
    "a prediction",
    _grey,
    lambda beside: [
        *("predict", "shape_tree", "--data", "grey", "--into", "opened"),
        *("--set", "operator=area_opening", "--set", "area=25"),
    ],
    lambda catalog: rows_of(catalog, "opened") > 0,
    _predicted,
)
