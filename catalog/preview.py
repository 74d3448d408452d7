"""Contact sheets: a picture of the samples of a selection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.platform.errors import InvalidSetting, SensoriumError, UserError

if TYPE_CHECKING:
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["contact_sheet"]

_CELL_INCHES = 2.6
_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


def contact_sheet(selection: Selection, path: Path, *, count: int = 12, columns: int = 4) -> Path:
    """Draw ``count`` samples, evenly spread over the selection, each under its id, and save the sheet to ``path``.

    Raises:
        UserError: the modality has nothing to draw, or the selection is empty.
        InvalidSetting: the file's suffix is not that of a picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modality = selection.declaration.modality
    if path.suffix.lower() not in _FORMATS:
        raise InvalidSetting(f"{path}: a contact sheet is a picture; end its name in one of {', '.join(_FORMATS)}.")
    if modality.preview is None:
        raise UserError(
            f"data set {selection.name!r}: samples of modality {modality.name!r} have no preview. Query it instead."
        )
    total = len(selection)
    if total == 0:
        raise UserError(f"data set {selection.name!r}: nothing to draw, the selection is empty.")
    shown = min(count, total)
    columns = min(columns, shown)
    rows = math.ceil(shown / columns)
    figure = Figure(figsize=(_CELL_INCHES * columns, _CELL_INCHES * rows + 0.5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(f"{selection.name}@{selection.version}: {shown} of {total} samples", fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, sample in zip(axes, _spread(selection, shown), strict=False):
        try:
            modality.preview(axis, sample)
        except SensoriumError as error:
            axis.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", fontsize=6, transform=axis.transAxes)
        name = sample.id if len(sample.id) <= 34 else "…" + sample.id[-33:]
        axis.set_title(name, fontsize=8)
    for axis in axes[shown:]:
        axis.set_axis_off()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place.") from error
    return path


def _spread(selection: Selection, count: int) -> Iterable[Sample]:
    total = len(selection)
    return (selection[index * total // count] for index in range(count))
