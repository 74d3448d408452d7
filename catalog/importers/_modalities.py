"""Importers of files of any modality: which modality it is by the arrays that are there, and options that name these."""

from __future__ import annotations

from collections.abc import Iterable

from sensorium.catalog import modality as modalities
from sensorium.catalog.modality import Modality
from sensorium.platform import plugins

__all__ = ["field_options", "guessed"]


def guessed(names: Iterable[str]) -> list[str]:
    """The modalities whose samples have these arrays; not those that are a special case of another."""
    there = set(names)
    if {"encoded", "frames"} & there:
        return ["video"]
    found = []
    for one in _installed():
        required = {name for name, field in one.arrays.items() if field.required}
        # an image field is one of panoramas, too: those have to be asked for
        if required and required <= there and one.name != "panorama":
            found.append(one.name)
    return found


def field_options(form: str, *, scalars: bool = False) -> dict[str, str]:
    """An option for every array, or every field, of any modality; ``form`` has ``{name}`` where its name goes."""
    names = {name for one in _installed() for name in ([field.name for field in one.fields] if scalars else one.arrays)}
    return {name: form.format(name=name) for name in sorted(names)}


def _installed() -> Iterable[Modality]:
    return plugins.load_all(modalities.GROUP, Modality).values()
