"""The claim's experiment: nodes and SSIM against the paper's λ, n and levels, and what it costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.jobs import image_metrics
from sensorium.jobs.demo import photographs
from sensorium.jobs.shape_tree import figures
from sensorium.jobs.shape_tree.filters import Filtered, area_opening, mean_filter, quantise
from sensorium.jobs.shape_tree.grey import grey_of
from sensorium.jobs.shape_tree.levels import InvalidImage
from sensorium.jobs.shape_tree.simulation import microtomography
from sensorium.jobs.shape_tree.tree import tree_of_shapes
from sensorium.jobs.training.reproduction import Finding, Reproduction, Section
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.progress import progress

__all__ = ["reproduce"]

_CLAIM = "the node count falls while SSIM stays high, at a cost that grows linearly with the nodes"
_DATA = "shape_tree_photographs"
#: for a quick look: a face, a texture, a sky, a page
_QUICK = ("astronaut", "gravel", "hubble_deep_field", "page")
_AREAS = (2, 5, 10, 25, 50, 100)
_PASSES = (1, 2, 3, 5, 7, 10)
_LEVELS = (64, 32, 16, 8)
#: of the paper, Figs 7 and 8: share of the nodes that is left
_PAPER = {"area_opening 10": 1.5e4 / 1.7e5, "area_opening 25": 9.7e3 / 1.7e5, "mean_filter 5": 4.7e5 / 1_205_028,
          "mean_filter 10": 2.3e5 / 1_205_028}  # fmt: skip
#: pixels of a side of the simulated microtomographies: the paper's, and for a quick look
_SIDE, _QUICK_SIDE = 2050, 700
_SIDES = (256, 512, 1024, 2050)


def reproduce(request: Reproduction) -> Finding:
    """Run the three operators on photographs and on simulated microtomographies.

    Raises:
        InvalidSetting: settings to change, which this experiment has none of, or a data set without images that it can use.
    """
    if request.changes or request.folds:
        raise InvalidSetting("this experiment goes through the paper's settings: leave --set and --folds out.")
    dataset = request.catalog.dataset(request.data) if request.data else _photographs(request)
    images = dict(_grey_images(dataset, request))
    seeds = request.seeds or (1 if request.quick else 3)
    side = _QUICK_SIDE if request.quick else _SIDE
    slices = {f"seed {seed}": microtomography(side, seed) for seed in range(seeds)}
    rows = pl.DataFrame([*_measured("photographs", images), *_measured("microtomography, simulated", slices)])
    table = _summary(rows)
    costs = pl.DataFrame(list(_costs(_SIDES[: 2 if request.quick else None])))
    first, slice_ = next(iter(images.values())), next(iter(slices.values()))
    return Finding(
        _CLAIM,
        _verdict(rows, costs),
        (
            Section("Nodes and SSIM", table, _NOTE.format(images=len(images), slices=len(slices), side=side)),
            Section("Cost", costs, _COST_NOTE),
        ),
        figures.all_figures(rows, first, slice_[: 2 * side // 5, : 2 * side // 5]),
        (Source(dataset.name, dataset.version),),
    )


_NOTE = (
    "{images} photographs, their luma, and {slices} **simulated** microtomographies of {side} × {side} pixels, whose noise is "
    "set so that their trees have as many nodes a pixel as the paper's image. Medians over the images, in brackets the lowest "
    "and the highest: nodes left, of those before; SSIM to the image before. The paper’s shares are of one image each: "
    "λ of its Fig. 7, n of its Fig. 8. “P1, P2” says on how many images the tree that is left equals the tree built afresh from "
    "the result, and no step between 4-neighbours changes its sign."
)
_COST_NOTE = (
    "Simulated microtomographies, 10 passes of the mean filter; CPU seconds of one thread, compiled before. A visit is one node "
    "looked at in one pass."
)


def _photographs(request: Reproduction) -> Dataset:
    """The demo's photographs, grey, as a data set; made where it is not there yet."""
    catalog = request.catalog
    if _DATA not in catalog:
        with tempfile.TemporaryDirectory() as folder:
            place = photographs.collect(Path(folder))
            samples = [
                {"id": Path(name).stem, "image": np.asarray(Image.open(place / name).convert("L"))[..., np.newaxis]}
                for name in photographs.PHOTOGRAPHS
            ]
        made = catalog.create(_DATA, modality="image", description="photographs, luma", licence=photographs.LICENCE)
        made.append(samples, key="photographs")
    return catalog[_DATA]


def _grey_images(dataset: Dataset, request: Reproduction) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The data set's images of 8 bits, by name."""
    selection = dataset.select()
    names = [str(name) for name in selection.frame()["id"]]
    if request.quick:
        names = [name for name in names if request.data or name in _QUICK][: len(_QUICK)]
    found = 0
    for name in names:
        try:
            grey = grey_of(np.asarray(selection[name]["image"]))
        except InvalidImage:
            continue
        if grey.dtype == np.uint8 and min(grey.shape) >= 11:  # the window of SSIM
            found += 1
            yield name, grey
    if not found:
        raise InvalidSetting(f"data set {dataset.name!r} has no images of 8 bits with 11 × 11 pixels or more.")


# -- measuring ---------------------------------------------------------------------------------------------------------


def _settings() -> Iterator[tuple[str, int, Callable[[NDArray[Any]], Filtered]]]:
    """Operators, each with one of the paper's parameters."""
    for area in _AREAS:
        yield "area_opening", area, lambda image, area=area: area_opening(image, area)  # type: ignore[misc]
    for area in (10, 25):
        yield "area_opening, consecutive", area, lambda image, area=area: area_opening(image, area, "consecutive")  # type: ignore[misc]
    for passes in _PASSES:
        yield "mean_filter", passes, lambda image, passes=passes: mean_filter(image, passes)  # type: ignore[misc]
    for levels in _LEVELS:
        yield "quantise", levels, lambda image, levels=levels: quantise(image, levels)  # type: ignore[misc]


def _measured(kind: str, images: Mapping[str, NDArray[np.uint8]]) -> Iterator[dict[str, Any]]:
    similarity = image_metrics.get("ssim")
    settings = list(_settings())
    with progress(kind, total=len(images) * len(settings), unit="runs") as bar:
        for name, image in images.items():
            for operator, parameter, run in settings:
                result = run(image)
                yield {
                    "images": kind,
                    "image": name,
                    "operator": operator,
                    "parameter": parameter,
                    "nodes_before": result.nodes_before,
                    "nodes": result.tree.node_count,
                    "share": result.tree.node_count / result.nodes_before,
                    "ssim": similarity.compute(_colours(image), _colours(result.image)),
                    "holds": _holds(image, result),
                }
                bar.advance(1)


def _colours(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As metrics take it, [H, W, 3]."""
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _holds(image: NDArray[Any], result: Filtered) -> bool:
    """P1 and P2 of one result."""
    again = tree_of_shapes(result.image)
    same = all(
        np.array_equal(getattr(again, name), getattr(result.tree, name))
        for name in ("parent", "altitude", "node_of_pixel")
    )
    before, after = (np.pad(one.astype(np.int32), 1) for one in (image, result.image))
    for axis in (0, 1):
        was, is_now = np.sign(np.diff(before, axis=axis)), np.sign(np.diff(after, axis=axis))
        same = same and bool(((is_now == was) | (is_now == 0)).all())
    return same


def _summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Medians and ranges by kind of images, operator and parameter."""
    found = []
    for (kind, operator, parameter), part in rows.group_by("images", "operator", "parameter", maintain_order=True):
        published = _PAPER.get(f"{operator} {parameter}") if isinstance(operator, str) else None
        found.append(
            {
                "images": kind,
                "operator": operator,
                "λ, n or levels": parameter,
                "nodes left": _spread(part["share"], "%"),
                "paper": "" if published is None else f"{100 * published:.1f} %",
                "SSIM": _spread(part["ssim"], ""),
                "P1, P2": f"{part['holds'].sum()} of {part.height}",
            }
        )
    return pl.DataFrame(found)


def _spread(values: pl.Series, unit: str) -> str:
    factor, places = (100, 1) if unit else (1, 3)
    array = values.to_numpy()
    shown = [f"{factor * one:.{places}f}" for one in (float(np.median(array)), array.min(), array.max())]
    return f"{shown[0]}{' ' + unit if unit else ''} ({shown[1]} – {shown[2]})"


def _costs(sides: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    mean_filter(microtomography(32), 1)  # compiles
    for side in sides:
        image = microtomography(side)
        start = time.process_time()
        tree = tree_of_shapes(image)
        built = time.process_time() - start
        start = time.process_time()
        result = mean_filter(image, 10)
        spent = max(1e-9, time.process_time() - start - built)
        yield {
            "megapixels": side * side / 1e6,
            "nodes": tree.node_count,
            "construction, s": built,
            "construction, ns a pixel": 1e9 * built / image.size,
            "visits": result.visits,
            "filter, s": spent,
            "filter, ns a visit": 1e9 * spent / result.visits,
        }


def _verdict(rows: pl.DataFrame, costs: pl.DataFrame) -> str:
    """Whether it shows: fewer than half the nodes at SSIM above 0.8, in the median, at λ = 10 and at n = 5, on both kinds."""
    said, good = [], True
    for kind in rows["images"].unique(maintain_order=True):
        for operator, parameter, letter in (("area_opening", 10, "λ"), ("mean_filter", 5, "n")):
            part = rows.filter(images=kind, operator=operator, parameter=parameter)
            share, ssim = (float(np.median(part[name].to_numpy())) for name in ("share", "ssim"))
            good = good and share < 0.5 and ssim > 0.8
            said.append(f"{100 * share:.0f} % of the nodes at SSIM {ssim:.2f} ({kind}, {letter} = {parameter})")
    growth = costs["filter, ns a visit"][-1] / costs["filter, ns a visit"][0]
    kept = rows["holds"].sum() == rows.height
    laws = "P1 and P2 hold on every result" if kept else "P1 or P2 FAILS on some results"
    times = f"the filter's time a visit grows {growth:.2f}-fold over a {costs['nodes'][-1] / costs['nodes'][0]:.0f}-fold tree"
    return f"{'yes' if good and kept else 'in part'}: {'; '.join(said)}. {laws}; {times}."
