"""Samples as predictions see them; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sensorium.platform.errors import InvalidSample, InvalidSetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sensorium.catalog.dataset import Dataset

__all__ = ["Picture", "Sample", "check_fields", "require_fields", "samples_of"]

#: fields of one sample, array fields as NumPy arrays; values that its data set gives once for all are among them
Sample = Mapping[str, Any]
#: draws one picture
Picture = Callable[["Axes"], None]


def check_fields(dataset: Dataset, modality: str, names: Sequence[str]) -> None:
    """Make sure, from declarations alone, that a data set is of a modality and has fields.

    Raises:
        InvalidSetting: another modality.
        UnknownField: a field is not there.
    """
    declaration = dataset.declaration
    if declaration.modality_name != modality:
        raise InvalidSetting(
            f"data set {dataset.name!r} is of modality {declaration.modality_name}; {modality} is needed. "
            "Choose another data set."
        )
    for name in names:
        if name != "id" and name not in declaration.attributes:
            declaration.require(name)


def samples_of(columns: Mapping[str, list[Any]], attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Samples that were read together as dictionaries; a field that a sample does not have is not in its own."""
    count = len(columns["id"])
    return [
        {**attributes, **{name: values[index] for name, values in columns.items() if values[index] is not None}}
        for index in range(count)
    ]


def require_fields(sample: Sample, names: Sequence[str]) -> None:
    """Make sure that a sample has what a prediction needs.

    Raises:
        InvalidSample: it does not.
    """
    for name in names:
        if sample.get(name) is None:
            raise InvalidSample(
                f"sample {sample.get('id', '?')!r} has no {name!r}, which a prediction needs. "
                f'Give it one, or leave such samples out with --where "{name} IS NOT NULL".'
            )
