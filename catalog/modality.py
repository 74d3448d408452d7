"""A modality: the fields that samples of one kind of sensor have, the rules between them, and how they are drawn.

A modality is one file that makes one :class:`Modality`, named by an entry point of the group ``sensorium.modalities``.
What can be said of one field (rank, dtype, range, NaN, axis lengths shared by several fields) is declared and checked for
all modalities alike; ``check`` adds the rules that only this one knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GROUP", "Modality", "Violation", "get"]

GROUP = "sensorium.modalities"


class Violation(NamedTuple):
    """A broken rule: the field at fault, what is wrong with which value, and what to do."""

    field: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Modality:
    """A kind of sample.

    Attributes:
        name: as in ``catalog.create(modality=...)``.
        title: for people.
        fields: the standard arrays and scalars; a data set may add others.
        check: rules beyond those of single fields. Gets the sample's values (arrays as NumPy, with the data set's
            attributes filled in for what the sample does not have) and yields what is wrong.
        preview: draws one sample (a mapping of its fields) on a matplotlib axes, small, as on a contact sheet.
        sheet: draws one sample large on an empty matplotlib figure, in all the ways that people look at it.
        steps: pictures [H, W, 3] uint8 of one sample with their captions, to be stepped through: slices, frames, bands.
        export: writes one sample (a mapping) in the modality's usual file format to the path given without a suffix, and
            returns the path written; None where NPZ is the usual one.
    """

    name: str
    title: str
    fields: tuple[Field, ...]
    check: Callable[[Mapping[str, Any]], Iterator[Violation]] | None = None
    preview: Callable[[Axes, Mapping[str, Any]], None] | None = None
    sheet: Callable[[Figure, Mapping[str, Any]], None] | None = None
    steps: Callable[[Mapping[str, Any]], Iterator[tuple[str, np.ndarray]]] | None = None
    export: Callable[[Mapping[str, Any], Path], Path] | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names) or "id" in names:
            raise InvalidSetting(f"modality {self.name!r}: field names must differ, and none may be 'id'; got {names}.")

    @property
    def arrays(self) -> dict[str, ArrayField]:
        return {field.name: field for field in self.fields if isinstance(field, ArrayField)}

    @property
    def scalars(self) -> dict[str, ScalarField]:
        return {field.name: field for field in self.fields if isinstance(field, ScalarField)}


def get(name: str) -> Modality:
    """The installed modality ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    modality: Modality = plugins.load(GROUP, name, Modality)
    return modality
