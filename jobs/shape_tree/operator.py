"""shape_tree on the images of a data set: the image that an operator makes, and what it does to the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.shape_tree.config import ShapeTreeConfig
from sensorium.jobs.shape_tree.drawing import illustrate
from sensorium.jobs.shape_tree.filters import Filtered, area_opening, mean_filter, quantise
from sensorium.jobs.shape_tree.grey import grey_of
from sensorium.jobs.shape_tree.levels import InvalidImage
from sensorium.jobs.shape_tree.modification import check_rules, modify
from sensorium.jobs.training.operators import Operator
from sensorium.jobs.training.samples import Sample, require_fields
from sensorium.platform.errors import InvalidSample

__all__ = ["filtered", "operator"]


def filtered(image: NDArray[Any], config: ShapeTreeConfig) -> Filtered:
    """What the configured operator makes of a grey image [H, W].

    Raises:
        InvalidImage: no tree can be built of it.
        InvalidSetting: an expression that cannot be understood.
    """
    if config.operator == "mean_filter":
        return mean_filter(image, config.iterations)
    if config.operator == "area_opening":
        return area_opening(image, config.area, config.variant)
    if config.operator == "quantise":
        return quantise(image, config.levels)
    return modify(image, criterion=config.criterion, policy=config.policy, order=config.order)


def _results(config: ShapeTreeConfig) -> tuple[Field, ...]:
    if config.operator == "modify":
        check_rules(config.criterion, config.policy, config.order)
    fields: list[Field] = [
        ArrayField("image", "H W C", sizes={"C": (1,)}, description="grey, after the operator"),
        ScalarField("nodes_before", pa.int64(), minimum=1, description="of the tree of shapes of the image"),
        ScalarField("nodes", pa.int64(), minimum=1, description="of the tree of shapes of the result"),
        ScalarField("node_counts", pa.list_(pa.int64()), description="nodes after each pass"),
    ]
    if config.tree:
        fields += [
            ArrayField("parent", "K", dtypes=("int32",), description="of each node of the result; 0 is the root"),
            ArrayField(
                "altitude", "K", dtypes=("int32",), description="of each node: the grey value of its proper part"
            ),
            ArrayField(
                "node_of_pixel", "H W", dtypes=("int32",), description="with a border of one pixel around the image"
            ),
        ]
    return tuple(fields)


def _predict(config: ShapeTreeConfig, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [_result(config, sample) for sample in samples]


def _result(config: ShapeTreeConfig, sample: Sample) -> dict[str, Any]:
    require_fields(sample, ("image",))
    try:
        done = filtered(grey_of(np.asarray(sample["image"]), config.steps), config)
    except InvalidImage as error:
        raise InvalidSample(f"sample {sample.get('id', '?')!r}, field 'image': {error}") from error
    result = {
        "image": done.image[..., np.newaxis],
        "nodes_before": done.nodes_before,
        "nodes": done.tree.node_count,
        "node_counts": list(done.node_counts),
    }
    if config.tree:
        tree = done.tree
        result |= {"parent": tree.parent, "altitude": tree.altitude, "node_of_pixel": tree.node_of_pixel}
    return result


def _example(config: ShapeTreeConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # noqa: ARG001
    """Discs on a slope under noise: 8 bits, 16 bits, colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :48]
    disc = (y - 18) ** 2 + (x - 22) ** 2 < 120
    base = 60 + x + 70 * disc + rng.normal(0, 6, x.shape)
    eight = np.clip(base, 0, 255).astype(np.uint8)
    colour = np.stack([eight, 255 - eight, eight // 2], axis=-1)
    samples = [
        {"id": "eight-bits", "image": eight[..., np.newaxis]},
        {"id": "sixteen-bits", "image": (eight.astype(np.uint16) * 200)[..., np.newaxis]},
        {"id": "colour", "image": colour},
    ]
    return samples, {}


operator = Operator(
    config=ShapeTreeConfig,
    fields=lambda config: ("image",),  # noqa: ARG005
    modality=lambda config: "image",  # noqa: ARG005
    results=_results,
    predict=_predict,
    example=_example,
    illustrate=illustrate,
)
