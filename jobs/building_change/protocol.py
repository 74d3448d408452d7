"""The paper's own experiments on full public data sets, for whoever has them; what a fit will cost is said first."""

from __future__ import annotations

import logging
import time
from typing import Any

import polars as pl
import torch
from torch.nn import functional

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.data import DATES
from sensorium.jobs.building_change.network import build
from sensorium.jobs.building_change.tiles import Grid
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.context import alone
from sensorium.jobs.training.fit import FitRequest, fit
from sensorium.jobs.training.reproduction import Finding, Reproduction, Section
from sensorium.platform.errors import InvalidSetting

__all__ = ["PROTOCOLS", "run"]

logger = logging.getLogger(__name__)

#: precision, recall, F1 and IoU of the paper (Tables 1 to 3), by protocol
PROTOCOLS = {
    "levir": ("LEVIR-CD", (0.9260, 0.9025, 0.9141, 0.8417)),
    "s2looking": ("S2Looking", (0.6937, 0.5870, 0.6359, 0.4662)),
    "whu": ("WHU-CD", (0.9556, 0.9289, 0.9421, 0.8905)),
}
_FIGURES = ("precision", "recall", "f1", "iou")
#: field with the published part of each scene, as the importer of folders of pairs writes it
_PART = "split"


def run(request: Reproduction) -> Finding:
    """Fit on the published training part, keep the best epoch by the validation part, measure on the test part.

    Raises:
        InvalidSetting: no such protocol, or no data set is named.
        UnknownField: the data set does not say which part a scene belongs to.
    """
    if request.protocol not in PROTOCOLS:
        raise InvalidSetting(f"protocol must be one of {', '.join(PROTOCOLS)}; got {request.protocol!r}.")
    title, paper = PROTOCOLS[request.protocol]
    if not request.data:
        raise InvalidSetting(
            f"{title} is not part of the project. Fetch it, ingest it (sensorium catalog ingest FOLDER --dataset NAME "
            "--format change_folders), and name it with --data NAME."
        )
    dataset = request.catalog.dataset(request.data)
    dataset.declaration.require(_PART)
    source = Source(dataset.name, dataset.version)
    quick = {"epochs": 1} if request.quick else {}
    config = overridden(overridden(ChangeConfig(), {"split.part": _PART, **quick}), request.changes)
    told = estimate(dataset, config)
    logger.warning("%s", told)
    report = fit(request.catalog, FitRequest("building_change", str(source), config), request.settings)
    table = pl.DataFrame(
        [{"": "here", **{name: report.figures[name].value for name in _FIGURES}},
         {"": "paper", **dict(zip(_FIGURES, paper, strict=True))}]
    )  # fmt: skip
    figure = report.figures["f1"]
    within = figure.low <= paper[2] <= figure.high
    shown = (
        f"{'yes' if within or figure.value > paper[2] else 'no'}. F1 {figure} over {figure.units} test scenes; the paper has "
        f"{paper[2]:.4f}."
    )
    note = f"{source}, {config.fit.epochs} epochs (paper: 300), one seed; model {report.model.reference}. {told}"
    claim = f"AYANet reaches F1 {paper[2]:.4f} on {title}"
    return Finding(claim, shown, (Section(f"{title}, published parts", table, note),), {}, (source,))


def estimate(dataset: Dataset, config: ChangeConfig) -> str:
    """How long the fit will take on this machine, from the time of one step."""
    rows = dataset.select(pl.col(_PART) == "train", fields=[DATES[0]]).rows
    if rows.is_empty():
        raise InvalidSetting(f"data set {dataset.name!r}: no scene has {_PART} 'train'. Look at the importer's splits.")
    shapes = rows[DATES[0]].struct.field("shape").to_list()
    tiles = sum(len(Grid(shape[0], shape[1], config.tile)) for shape in shapes)
    steps = config.fit.epochs * (tiles // config.fit.batch_size or 1)
    seconds = _step_seconds(config, int(shapes[0][2]))
    return (
        f"{tiles} tiles for training, {steps} steps of {seconds:.2g} s: about {steps * seconds / 3600:.3g} h on this device, "
        "validation and test besides."
    )


def _step_seconds(config: ChangeConfig, bands: int) -> float:
    """Of forward and backward pass of a batch, after one to warm up."""
    device = alone().device
    network = build(config, {"mean": [0.0] * bands, "deviation": [1.0] * bands}).to(device).train()
    shape = (config.fit.batch_size, bands, config.tile, config.tile)
    batch: dict[str, Any] = {date: torch.randn(shape, device=device) for date in DATES}
    truth = torch.zeros(shape[0], *shape[2:], dtype=torch.long, device=device)
    taken = 0.0
    for _ in range(2):
        started = time.perf_counter()
        loss = functional.cross_entropy(network(*batch.values()), truth)
        loss.backward()
        float(loss.detach())  # waits for the device
        taken = time.perf_counter() - started
    return taken
