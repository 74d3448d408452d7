"""Viewers: how one sample of each modality is looked at.

A viewer is a function that makes its components and their events for one sample, inside a rendering of its own
(``gr.render``): the components of modalities have nothing in common, most pages need one of them only, and the functions of
the events then hold the sample itself, whose arrays are read by slices when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sensorium.serve.pages.viewers import (
    audio,
    hyperspectral,
    image,
    image_pair,
    panorama,
    scene,
    series,
    table,
    video,
    volume,
)

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["VIEWERS", "Viewer", "of"]

Viewer = Callable[["Sample", "Declaration"], None]

VIEWERS: Mapping[str, Viewer] = {
    "audio": audio.show,
    "hyperspectral": hyperspectral.show,
    "image": image.show,
    "image_pair": image_pair.show,
    "panorama": panorama.show,
    "scene": scene.show,
    "series": series.show,
    "video": video.show,
    "volume": volume.show,
}


def of(modality: str) -> Viewer:
    """The viewer of a modality; for one from outside its own preview, and its values."""
    return VIEWERS.get(modality, table.show)
