"""Configuration of building_change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting

__all__ = ["ChangeConfig"]

_NETWORKS = ("ayanet", "fc_siam_diff")
_ENCODERS = ("both", "cnn", "gabor")
_BANKS = ("paper", "reference")
#: the deepest features are coarser than the picture by this
_COARSEST = 16


def _fit() -> FitOptions:
    return FitOptions(
        epochs=300, batch_size=8, lr=1e-4, weight_decay=0.01, schedule="linear", watch="f1", watch_mode="max"
    )


def _split() -> SplitOptions:
    return SplitOptions(folds=5, validation=0.125)


@dataclass(frozen=True)
class ChangeConfig:
    """How changes between two pictures are found.

    Attributes:
        network: ``ayanet`` (the paper's) or ``fc_siam_diff`` (a rival: a U-Net for both dates, whose skips are differences).
        encoder: of ayanet: ``both`` (paper), or one alone, ``cnn`` or ``gabor`` (Table 5).
        gabor: ``paper``: filters by Eq. 1 with sigma = 2 pi; ``reference``: sigma = pi and each filter scaled to [0, 1], as the
            published code has them.
        width: of EfficientNet's stages; 2.0 is B7 (paper). The Gabor encoder has as many channels at each resolution.
        depth: of EfficientNet's stages; 3.1 is B7 (paper).
        drop_connect: chance that the last of all blocks of such an EfficientNet is left out of a training step; it rises
            towards that from 0 at the first (assumed).
        weights: folder or hub id of an EfficientNet of the same width and depth to begin with, for three bands; empty begins
            at random (paper).
        base: channels of fc_siam_diff at full resolution.
        tile: side of the squares that scenes are cut into, pixels (paper: 256); a multiple of 16.
        overlap: of neighbouring tiles in predictions, pixels; in training they do not overlap (paper).
        augment: flips, crops and blur while training (paper).
        same: scalar fields, in pairs, that must be equal in each sample, such as ``before_crs,after_crs``: where a data set
            has the georeference of both dates, a pair on two grids is refused.
        fit: 300 epochs in batches of 8, learning rate 1e-4 falling to 0, weight decay 0.01 (paper); the epoch with the best
            F1 of the validation part is kept (assumed).
        split: by sample; a field such as ``city`` keeps scenes of one place together.
    """

    network: Literal["ayanet", "fc_siam_diff"] = "ayanet"
    encoder: Literal["both", "cnn", "gabor"] = "both"
    gabor: Literal["paper", "reference"] = "paper"
    width: float = 2.0
    depth: float = 3.1
    drop_connect: float = 0.2
    weights: str = ""
    base: int = 16
    tile: int = 256
    overlap: int = 64
    augment: bool = True
    same: tuple[str, ...] = ()
    fit: FitOptions = field(default_factory=_fit)
    split: SplitOptions = field(default_factory=_split)

    def __post_init__(self) -> None:
        for name, choices in (("network", _NETWORKS), ("encoder", _ENCODERS), ("gabor", _BANKS)):
            if getattr(self, name) not in choices:
                raise InvalidSetting(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) <= 4:
                raise InvalidSetting(f"{name} must be above 0 and at most 4; got {getattr(self, name)}.")
        if not 0 <= self.drop_connect < 1:
            raise InvalidSetting(f"drop_connect must be from 0 to below 1; got {self.drop_connect}.")
        if self.base < 1:
            raise InvalidSetting(f"base must be 1 channel or more; got {self.base}.")
        if self.tile < _COARSEST or self.tile % _COARSEST:
            raise InvalidSetting(f"tile must be a multiple of {_COARSEST} pixels; got {self.tile}.")
        if not 0 <= self.overlap < self.tile:
            raise InvalidSetting(f"overlap must be from 0 to below tile ({self.tile}); got {self.overlap}.")
        if len(self.same) % 2:
            raise InvalidSetting(f"same must name fields in pairs; got {', '.join(self.same)}.")
