"""component_tree on the samples of a data set: the tree, and the image without the nodes that are filtered out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.component_tree.config import ComponentTreeConfig
from sensorium.jobs.component_tree.drawing import illustrate
from sensorium.jobs.component_tree.order import InvalidOrder
from sensorium.jobs.component_tree.preparation import prepared
from sensorium.jobs.component_tree.tree import InvalidValues, component_tree
from sensorium.jobs.training.operators import Operator
from sensorium.jobs.training.samples import Sample
from sensorium.platform.errors import InvalidSample

__all__ = ["operator"]


def _results(config: ComponentTreeConfig) -> tuple[Field, ...]:
    layout = {"image": "H W C", "volume": "Z Y X"}.get(config.values, "H W")
    points = "Z Y X" if config.values == "volume" else "H W"
    return (
        ArrayField("filtered", layout, description="the values, filtered; -1 for a union of several labels"),
        ArrayField("parent", "K", dtypes=("int32",), description="of each node that is kept; 0 is the root"),
        ArrayField("omega", "K", dtypes=("int32",), description="value of each node that is kept, of the order"),
        ArrayField("node_of_point", points, dtypes=("int32",), description="smallest kept node that holds the point"),
        ArrayField("order", "V", dtypes=("int32",), description="next lower value of each value"),
        ScalarField("nodes", pa.int64(), minimum=1, description="of the whole tree"),
        ScalarField("kept", pa.int64(), minimum=1, description="nodes that are kept"),
        ScalarField("depth", pa.int64(), minimum=0, description="most steps from the root of the whole tree"),
        ScalarField("changed", pa.float64(), minimum=0, maximum=1, description="share of points with another value"),
    )


def _predict(config: ComponentTreeConfig, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [_result(config, sample) for sample in samples]


def _result(config: ComponentTreeConfig, sample: Sample) -> dict[str, Any]:
    try:
        image = prepared(sample, config)
        tree = component_tree(image.values, image.order, config.adjacency or None)
    except (InvalidValues, InvalidOrder) as error:
        raise InvalidSample(f"sample {sample.get('id', '?')!r}, field {config.values!r}: {error}") from error
    kept = tree.filter(config.attribute, at_least=config.at_least, rule=config.rule)
    values = kept.reconstruct()
    return {
        "filtered": image.shown(values),
        "parent": kept.parent,
        "omega": kept.value,
        "node_of_point": kept.node_of_point,
        "order": np.asarray(image.order.parent),
        "nodes": tree.node_count,
        "kept": kept.node_count,
        "depth": int(tree.attribute("depth").max()),
        "changed": float(np.mean(values != image.values)),
    }


def _example(config: ComponentTreeConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Patches of a few colours, or labels, with specks of others."""
    rng = np.random.default_rng(seed)
    shape = (6, 20, 24) if config.values == "volume" else (40, 48)
    samples = []
    for number in range(3):
        patches = rng.integers(0, 5, tuple(-(-length // 8) for length in shape))
        for axis, length in enumerate(shape):
            patches = np.repeat(patches, 8, axis=axis).take(np.arange(length), axis=axis)
        labels = np.where(rng.random(shape) < 0.05, rng.integers(0, 7, shape), patches).astype(np.uint8)
        sample: dict[str, Any] = {"id": f"made-up-{number}"}
        if config.values != "volume":
            grey = config.values == "image" and config.order == "total"
            paints = rng.integers(0, 256, (7, 1 if grey else 3)).astype(np.uint8)
            sample["image"] = paints[labels]
        if config.values != "image":
            sample[config.values] = labels.astype(np.int16) if config.values == "volume" else labels
        samples.append(sample)
    return samples, {}


operator = Operator(
    config=ComponentTreeConfig,
    fields=lambda config: (config.values,),
    modality=lambda config: "volume" if config.values == "volume" else "image",
    results=_results,
    predict=_predict,
    example=_example,
    illustrate=illustrate,
)
