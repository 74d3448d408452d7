"""Two co-registered pictures of one place at two times, and what changed between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import PIXELS, mark_field
from sensorium.catalog.modality import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modality"]

_FIELDS = (
    ArrayField("before", "H W C", dtypes=PIXELS, required=True, codec="none", description="earlier picture, any bands"),
    ArrayField("after", "H W C", dtypes=PIXELS, required=True, codec="none", description="later picture, same grid"),
    mark_field("change", "H W", "changed, where not 0"),
)


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw both pictures side by side in one scale of brightness, the change outlined on the later one."""
    thinned = [_drawing.thin(np.asarray(sample[name])) for name in ("before", "after")]
    width = thinned[0].shape[1]
    both = _drawing.to_rgb(np.concatenate(thinned, axis=1))  # [H, 2 W, 3]
    gap = max(2, width // 50)
    axes.imshow(np.insert(both, [width] * gap, 1.0, axis=1), interpolation="nearest")
    if sample.get("change") is not None:
        _drawing.outline(axes, _drawing.thin(np.asarray(sample["change"])), left=width + gap)
    axes.set_axis_off()


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Before and after in one scale of brightness, then the change."""
    before, after = (_drawing.thin(np.asarray(sample[name]), 1024) for name in ("before", "after"))
    both = (_drawing.to_rgb(np.concatenate([before, after], axis=1)) * 255 + 0.5).astype(np.uint8)
    yield "before", both[:, : before.shape[1]]
    yield "after", both[:, before.shape[1] :]
    if sample.get("change") is not None:
        changed = (_drawing.thin(np.asarray(sample["change"]), 1024) != 0)[..., np.newaxis]
        yield "change", (changed * np.full(3, 255)).astype(np.uint8)


modality = Modality(
    name="image_pair", title="before and after", fields=_FIELDS, preview=preview, sheet=_sheets.pair, steps=steps
)
