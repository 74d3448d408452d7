"""Arrays of samples as values of an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.component_tree.config import ComponentTreeConfig
from sensorium.jobs.component_tree.cooccurrence import order_from_cooccurrence
from sensorium.jobs.component_tree.histogram import colour_codes, order_from_histogram, palette
from sensorium.jobs.component_tree.order import Order, total_order
from sensorium.jobs.training.samples import Sample, require_fields
from sensorium.platform.errors import InvalidSample

__all__ = ["Prepared", "prepared"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image whose values are in order.

    Attributes:
        order: on the values.
        values: of the points, int [Y, X] or [Z, Y, X].
        given: the sample's array, [Y, X, C], [Y, X] or [Z, Y, X].
        known: what each of the first values stood for in ``given``, [M]; None for colours.
    """

    order: Order
    values: NDArray[Any]
    given: NDArray[Any]
    known: NDArray[Any] | None

    def shown(self, values: NDArray[Any]) -> NDArray[Any]:
        """Other values of the same points as an array like ``given``.

        Colours of points whose value is as it was are as they were; others have the mean colour of their new value. A label
        that only an enriched order knows, a union of several, is -1.
        """
        if self.known is not None:
            none = np.full(self.order.size - self.known.size, -1, np.int64)
            every: NDArray[Any] = np.concatenate([self.known, none]) if none.size else self.known
            return np.asarray(every[values].reshape(self.given.shape))
        mean = np.rint(palette(self.order, self.values, self.given)).astype(np.uint8)
        same = (values == self.values)[..., None]
        return np.where(same, self.given, mean[values])


def prepared(sample: Sample, config: ComponentTreeConfig) -> Prepared:
    """The values of a sample, and the order on them.

    Raises:
        InvalidSample: there are none, or they cannot be ordered as the configuration says.
    """
    require_fields(sample, (config.values,))
    array = np.asarray(sample[config.values])
    if config.values == "image" and array.shape[-1] >= 3:
        return _colours(sample, array[..., :3], config)
    if config.order == "histogram":
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r}: order histogram needs colours; its image has one channel. "
            "Set order=total or order=cooccurrence."
        )
    if array.dtype.kind not in "iub":
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r}: values of {config.values!r} must be integers; got {array.dtype}. "
            "Quantise them first."
        )
    known, number = np.unique(array, return_inverse=True)
    plane = number.reshape(array.shape[:2] if config.values == "image" else array.shape)
    if config.order == "total":
        return Prepared(total_order(known.size), plane, array, known)
    order = order_from_cooccurrence(plane, known.size, config.adjacency or None)
    return Prepared(order, plane, array, known.astype(np.int64))


def _colours(sample: Sample, image: NDArray[Any], config: ComponentTreeConfig) -> Prepared:
    where = f"sample {sample.get('id', '?')!r}"
    if config.order == "total":
        raise InvalidSample(f"{where}: colours have no total order. Set order=histogram or order=cooccurrence.")
    if image.dtype != np.uint8:
        raise InvalidSample(f"{where}: colours must be uint8; its image is {image.dtype}. Convert it to 8 bits.")
    if config.order == "histogram":
        found = order_from_histogram(image, config.bits)
        return Prepared(found, found.values, image, None)
    _, number = np.unique(colour_codes(image, config.bits), return_inverse=True)
    values = number.reshape(image.shape[:2])
    return Prepared(order_from_cooccurrence(values, None, config.adjacency or None), values, image, None)
