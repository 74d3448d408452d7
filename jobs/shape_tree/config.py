"""Configuration of shape_tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sensorium.platform.errors import InvalidSetting

__all__ = ["ShapeTreeConfig"]

_OPERATORS = ("mean_filter", "area_opening", "quantise", "modify")


@dataclass(frozen=True)
class ShapeTreeConfig:
    """Which operator runs, and how.

    Attributes:
        operator: ``mean_filter``, ``area_opening``, ``quantise`` (the paper's three), or ``modify`` (its Algorithm 3 with a
            criterion and a policy of one's own).
        iterations: of the mean filter, 0 or more (paper: 5 and 10).
        area: of the area opening: pixels that a proper part must have (paper: λ of 10 and 25).
        variant: of the area opening: ``paper``, or ``consecutive`` for 2, 3 … ``area`` one after another.
        levels: of the quantisation (paper: 32 and 16).
        criterion: of ``modify``: which nodes are shifted, such as ``proper_part < 10 and depth > 2``.
        policy: of ``modify``: to which altitude, such as ``parent_altitude``.
        order: of ``modify``: ``root_first``, ``leaves_first``, or an expression whose lowest values come first.
        steps: values that the range from 0 to 1 of an image of floats is divided into, from 2 to 65,536 (assumed: 256).
        tree: whether results hold the tree that is left, too: parents, altitudes, and the node of each pixel.
    """

    operator: Literal["mean_filter", "area_opening", "quantise", "modify"] = "mean_filter"
    iterations: int = 10
    area: int = 10
    variant: Literal["paper", "consecutive"] = "paper"
    levels: int = 16
    criterion: str = "proper_part < 10"
    policy: str = "parent_altitude"
    order: str = "proper_part"
    steps: int = 256
    tree: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("operator", _OPERATORS), ("variant", ("paper", "consecutive"))):
            if getattr(self, name) not in choices:
                raise InvalidSetting(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")
        for name, least, most in (
            ("iterations", 0, 10_000),
            ("area", 1, 1 << 30),
            ("levels", 2, 65_536),
            ("steps", 2, 65_536),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidSetting(f"{name} must be from {least} to {most}; got {getattr(self, name)}.")
