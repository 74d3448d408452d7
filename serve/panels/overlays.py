"""A predicted volume to walk through: the viewer of its modality, with what was found as the mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.serve.pages.viewers import volume

if TYPE_CHECKING:
    from sensorium.serve.gateway import Answer, ServedModel
    from sensorium.serve.panels.inputs import Given

__all__ = ["Overlaid", "overlaid"]


class Overlaid:
    """A sample [Z, Y, X] and a mask of its shape, as the viewer asks for them.

    Its equality is that of the object: a page's state changes with every answer, and no array is compared for that.
    """

    def __init__(self, sample: Mapping[str, Any], mask: npt.NDArray[Any]) -> None:
        self._fields = {**sample, "mask": mask}
        self.id = str(sample["id"])

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def get(self, name: str, /) -> Any:
        """A field; None where it is not there."""
        return self._fields.get(name)

    def view(self, name: str) -> npt.NDArray[Any]:
        """An array."""
        array: npt.NDArray[Any] = self._fields[name]
        return array

    def show(self) -> None:
        """Three planes with sliders, windows, and the mask."""
        volume.show(self)


def overlaid(answer: Answer, given: Given, served: ServedModel) -> Overlaid | None:
    """A volume with the first of the answer's label arrays that has its shape; None where there is none."""
    field = given.sample.get("volume")
    if served.modality != "volume" or field is None:
        return None
    for value in answer.result.values():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biu" and value.shape == np.shape(field):
            return Overlaid({"id": "the sample", **given.sample}, value)
    return None
