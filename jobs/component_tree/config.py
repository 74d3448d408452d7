"""Configuration of component_tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sensorium.platform.errors import InvalidSetting

__all__ = ["ORDERS", "ComponentTreeConfig"]

#: how values are ordered; see the configuration
ORDERS = ("histogram", "cooccurrence", "total")
#: as :data:`.tree.ATTRIBUTES`, :data:`.tree.Rule` and :data:`.grid.ADJACENCIES`, which would bring numba along
_ATTRIBUTES = ("area", "proper_area", "remanence", "omega", "depth", "children")
_RULES = ("direct", "min", "max")
_ADJACENCIES = (0, 4, 8, 6, 26)


@dataclass(frozen=True)
class ComponentTreeConfig:
    """How the tree of an image is built, and what is filtered out.

    Attributes:
        values: array field whose values the tree is of: ``image`` (RGB, or one channel of integers), ``labels``, ``mask``, or
            ``volume``.
        order: on the values. ``histogram``: colours by the component tree of the colour histogram (paper, Sect. 5.1);
            ``cooccurrence``: values by a binary partition tree of how often they touch (Sect. 5.2); ``total``: the order of
            numbers, which makes the tree a max-tree, not for colours.
        bits: of each channel of a colour that are kept before it is ordered, 1 to 8 (paper: 8). With co-occurrence at most 4:
            it takes 4096 colours.
        adjacency: of the points: 4 or 8 in a plane, 6 or 26 in a volume; 0: the smaller one.
        attribute: of nodes, by which they are kept: ``area``, ``proper_area``, ``remanence``, ``omega``, ``depth``, ``children``.
        at_least: value of it that a node needs to be kept; 0 keeps all, and the image comes out as it was.
        rule: ``direct``, each node for itself; ``min``, if all around it are kept as well; ``max``, if one inside it is.
    """

    values: str = "image"
    order: str = "histogram"
    bits: int = 6
    adjacency: int = 0
    attribute: str = "area"
    at_least: float = 50.0
    rule: Literal["direct", "min", "max"] = "direct"

    def __post_init__(self) -> None:
        for name, choices in (
            ("values", ("image", "labels", "mask", "volume")),
            ("order", ORDERS),
            ("adjacency", _ADJACENCIES),
            ("attribute", _ATTRIBUTES),
            ("rule", _RULES),
        ):
            if getattr(self, name) not in choices:
                shown = ", ".join(map(str, choices))
                raise InvalidSetting(f"{name} must be one of {shown}; got {getattr(self, name)!r}.")
        if not 1 <= self.bits <= 8:
            raise InvalidSetting(f"bits must be 1 to 8; got {self.bits}.")
        if not self.at_least >= 0:
            raise InvalidSetting(f"at_least must be 0 or more; got {self.at_least}.")
        if self.values != "image" and self.order == "histogram":
            raise InvalidSetting(
                f"order histogram is for the colours of the field image; got values {self.values!r}. "
                "Set order=cooccurrence for labels, or order=total."
            )
        if self.adjacency and (self.adjacency in (6, 26)) != (self.values == "volume"):
            raise InvalidSetting(
                f"adjacency must be 6 or 26 for a volume, 4 or 8 for anything else; got {self.adjacency} for {self.values!r}."
            )
