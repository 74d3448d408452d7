"""The claim's experiment: trees of images over several sets of values, rebuilt and filtered."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.jobs.component_tree.config import ComponentTreeConfig
from sensorium.jobs.component_tree.cooccurrence import order_from_cooccurrence
from sensorium.jobs.component_tree.drawing import branches, draw_values, node_colours, sheet
from sensorium.jobs.component_tree.grid import grid_edges
from sensorium.jobs.component_tree.histogram import order_from_histogram, palette
from sensorium.jobs.component_tree.order import Order, total_order
from sensorium.jobs.component_tree.preparation import prepared
from sensorium.jobs.component_tree.tree import ComponentTree, component_tree
from sensorium.jobs.demo import photographs
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.reproduction import Finding, Reproduction, Section
from sensorium.jobs.trees.drawing import draw_tree
from sensorium.platform.errors import InvalidSetting

__all__ = ["reproduce"]

_CLAIM = "one tree for images of any value set, from which the image is rebuilt without loss"
_DATA = "component_tree_photographs"
#: the demo's photographs that have colours; the first three are enough for a quick look
_COLOURED = (
    *("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "ihc.png"),
    *("hubble_deep_field.jpg", "retina.jpg", "motorcycle_left.png", "china.jpg", "flower.jpg"),
)
_QUICK = 3
_BITS = (8, 6, 4)
_LABELS = 12
_AREAS = (1, 10, 50, 200, 1000, 5000)
_DRAWN = 30


def reproduce(request: Reproduction) -> Finding:
    """Build trees of colours, labels, grey levels, a volume and a graph; filter one photograph."""
    config = overridden(ComponentTreeConfig(), request.changes)
    dataset = request.catalog.dataset(request.data) if request.data else _photographs(request)
    names = dataset.select().frame()["id"].to_list()
    if not request.data:
        names = [Path(name).stem for name in _COLOURED][: _QUICK if request.quick else None]
    images = {name: np.asarray(dataset.select()[name]["image"]) for name in names[: _QUICK if request.quick else None]}
    if not images:
        raise InvalidSetting(f"data set {dataset.name!r} has no samples: give one with RGB images of 8 bits.")
    first = next(iter(images.values()))
    labels = _label_map(first)
    kinds = pl.DataFrame(list(_kinds(first, labels, request.seeds)))
    colours = pl.DataFrame([_photograph(name, image, bits) for name, image in images.items() for bits in _BITS])
    filtered = pl.DataFrame([_filtered(first, area, config) for area in _AREAS])
    lossless = all(frame["lossless"].all() for frame in (kinds, colours))
    counted = f"{kinds.height + colours.height} trees over {kinds.height} kinds of values and graphs"
    shown = f"{'yes' if lossless else 'no'}: {counted}; {'each' if lossless else 'not each'} image of values comes back exactly."
    sections = (
        Section("Sets of values", kinds, _KINDS_NOTE.format(name=next(iter(images)))),
        Section("Photographs, colours ordered by their histogram", colours, _COLOURS_NOTE),
        Section(f"Nodes by {config.attribute}, {next(iter(images))}", filtered, _filter_note(config)),
    )
    return Finding(_CLAIM, shown, sections, _figures(first, labels, config), (Source(dataset.name, dataset.version),))


_KINDS_NOTE = (
    "Points are those of the photograph {name}; its labels are the twelve colours of an adaptive palette (median cut), "
    "ordered by a binary partition tree of co-occurrence, or by nothing but a minimum below all of them; the graph has a point "
    "for each flat zone of the labels, and edges between zones that touch, so that its tree must have as many nodes as that of "
    "the plane. The volume is **simulated**. “Without points” are nodes with an empty proper part, which only a partial order "
    "has."
)
_COLOURS_NOTE = (
    "4-adjacency; bits of each channel that are kept before colours are ordered (paper: 8); colours that the image has, classes "
    "of colours in the order, that of the absent ones included. CPU seconds are of one thread, compiled before. The order is a "
    "preorder: colours of one class are lower and greater than each other, so that lossless means that the class of each point "
    "comes back."
)


def _photographs(request: Reproduction) -> Dataset:
    """The photographs as a data set, made where it is not there yet."""
    catalog = request.catalog
    if _DATA not in catalog:
        with tempfile.TemporaryDirectory() as folder:
            place = photographs.collect(Path(folder))
            samples = [
                {"id": Path(name).stem, "image": np.asarray(Image.open(place / name).convert("RGB"))}
                for name in _COLOURED
            ]
        made = catalog.create(_DATA, modality="image", description="colour photographs", licence=photographs.LICENCE)
        made.append(samples, key="photographs")
    return catalog[_DATA]


def _label_map(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each point's place in a palette of the image's own, [Y, X]."""
    return np.asarray(Image.fromarray(image).quantize(_LABELS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def _volume(seed: int) -> NDArray[np.int64]:
    """Simulated labels [40, 48, 56]: which of five smooth random fields is greatest."""
    rng = np.random.default_rng(seed)
    fields = rng.standard_normal((5, 40, 48, 56))
    for axis in (1, 2, 3):
        fields = np.mean([np.roll(fields, shift, axis) for shift in range(-3, 4)], axis=0)
    return np.asarray(fields.argmax(axis=0))


def _zones(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Value of each flat zone of a plane, and pairs of zones that touch."""
    every_label_apart = Order(np.zeros(int(labels.max()) + 2, np.int32))
    tree = component_tree(labels + 1, every_label_apart)
    zone = tree.node_of_point.ravel()
    used, number = np.unique(zone, return_inverse=True)
    pairs = np.sort(number[grid_edges(labels.shape, 4)], axis=1)
    return tree.value[used] - 1, np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _kinds(image: NDArray[np.uint8], labels: NDArray[Any], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of values."""
    colours = order_from_histogram(image)
    yield _row("colours, histogram", colours.values, colours, component_tree(colours.values, colours))
    merged = order_from_cooccurrence(labels, _LABELS)
    yield _row("labels, co-occurrence", labels, merged, component_tree(labels, merged))
    flat = Order(np.full(_LABELS + 1, _LABELS))
    yield _row("labels, a minimum only", labels, flat, component_tree(labels, flat))
    zones, edges = _zones(labels)
    yield _row("graph of the labels' zones", zones, merged, component_tree(zones, merged, edges=edges))
    grey = np.asarray(Image.fromarray(image).convert("L"))
    yield _row("grey levels, total", grey, total_order(256), component_tree(grey, total_order(256)))
    volume = _volume(seed)
    order = order_from_cooccurrence(volume, 5, 26)
    yield _row("volume of labels, 26-adjacency", volume, order, component_tree(volume, order, 26))


def _row(kind: str, values: NDArray[Any], order: Order, tree: ComponentTree) -> dict[str, Any]:
    return {
        "values": kind,
        "points": values.size,
        "in the order": order.size,
        "in the image": int(np.unique(values).size),
        "nodes": tree.node_count,
        "without points": int((tree.attribute("proper_area") == 0).sum()),
        "depth": int(tree.attribute("depth").max()),
        "greatest τ": int(tree.attribute("remanence").max()),
        "lossless": bool(np.array_equal(tree.reconstruct(), values)),
    }


def _photograph(name: str, image: NDArray[np.uint8], bits: int) -> dict[str, Any]:
    """A row for a photograph and a number of bits."""
    begun = time.process_time()
    order = order_from_histogram(image, bits)
    ordered = time.process_time()
    tree = component_tree(order.values, order)
    built = time.process_time()
    own = tree.attribute("proper_area")
    return {
        "photograph": name,
        "bits": bits,
        "points": order.values.size,
        "colours": len(order.colours),
        "classes": order.size,
        "nodes": tree.node_count,
        "without points": int((own == 0).sum()),
        "depth": int(tree.attribute("depth").max()),
        "lossless": bool(np.array_equal(tree.reconstruct(), order.values)),
        "order, CPU s": ordered - begun,
        "tree, CPU s": built - ordered,
    }


def _filtered(image: NDArray[np.uint8], bound: float, config: ComponentTreeConfig) -> dict[str, Any]:
    """A row for a bound of the attribute."""
    ready, tree = _tree(image, config)
    kept = tree.filter(config.attribute, at_least=bound, rule=config.rule)
    result = ready.shown(kept.reconstruct())
    difference = np.abs(result.astype(int) - image)
    return {
        "at least": bound,
        "nodes": kept.node_count,
        "points with another value": float(np.mean(kept.reconstruct() != ready.values)),
        "mean change, grey levels": float(difference.mean()),
    }


def _tree(image: NDArray[np.uint8], config: ComponentTreeConfig) -> tuple[Any, ComponentTree]:
    ready = prepared({"id": "photograph", "image": image}, config)
    return ready, component_tree(ready.values, ready.order, config.adjacency or None)


def _filter_note(config: ComponentTreeConfig) -> str:
    return (
        f"Order {config.order} with {config.bits} bits a channel, rule {config.rule}. Points whose node is taken out get the "
        "mean colour of the class of the next larger node, which may lie far from their own: the order says which colours are "
        "rarer, not which are alike."
    )


def _figures(image: NDArray[np.uint8], labels: NDArray[Any], config: ComponentTreeConfig) -> dict[str, bytes]:
    ready, tree = _tree(image, config)
    kept = tree.filter(config.attribute, at_least=config.at_least, rule=config.rule)
    merged = order_from_cooccurrence(labels, _LABELS)
    of_labels = component_tree(labels, merged)
    few = of_labels.filter("area", at_least=config.at_least)
    paints = palette(merged, labels, image) / 255
    return {
        "photograph": sheet(_row_of_pictures(image, tree, kept, ready.shown(kept.reconstruct()), config)),
        "labels": sheet(
            {
                "labels": lambda axes: draw_values(axes, paints[labels]),
                f"area {config.at_least:g} or more": lambda axes: draw_values(axes, paints[few.reconstruct()]),
                "order on the labels": lambda axes: _draw_order(axes, merged, paints),
                "tree": lambda axes: _draw_branches(axes, few, image),
            }
        ),
    }


def _row_of_pictures(
    image: NDArray[np.uint8],
    tree: ComponentTree,
    kept: ComponentTree,
    filtered: NDArray[Any],
    config: ComponentTreeConfig,
) -> Mapping[str, Any]:
    return {
        f"{tree.node_count} nodes": lambda axes: draw_values(axes, image),
        f"{kept.node_count} nodes: {config.attribute} {config.at_least:g} or more": lambda axes: draw_values(
            axes, filtered
        ),
        "the tree's greatest branches": lambda axes: _draw_branches(axes, kept, image),
    }


def _draw_branches(axes: Any, tree: ComponentTree, image: NDArray[np.uint8]) -> None:
    few = branches(tree, _DRAWN)
    draw_tree(axes, few.parent, node_colours(few, image), sizes=few.attribute("area"))


def _draw_order(axes: Any, order: Order, paints: NDArray[np.float64]) -> None:
    """The order's own tree: ranks are numbers of a tree whose parents come first."""
    names = [str(value) if value < _LABELS else "" for value in order.value]
    draw_tree(axes, order.rank[order.parent[order.value]], paints[order.value], names)
