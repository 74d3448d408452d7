"""Configuration of lung_segmentation."""

from __future__ import annotations

from dataclasses import dataclass

from sensorium.platform.errors import InvalidSetting

__all__ = ["STAGES", "LungConfig"]

#: how far Algorithm 1 is run: one appearance, all three, with neighbours, with the network
STAGES = ("lcg", "lcg_min3", "lcg_min5", "combined", "mgrf", "full")
#: of the network's input: four levels that halve, patches of 4, windows of at least 4 at the first level
_GRAIN = 32
#: of anything that is counted
_MOST = 10_000


@dataclass(frozen=True)
class LungConfig:
    """How the lungs of a CT volume are found.

    Attributes:
        stage: the last step that is run: ``lcg``, ``lcg_min3``, ``lcg_min5`` (one appearance alone), ``combined`` (all three),
            ``mgrf`` (with neighbours), ``full`` (with Swin-Unet). The paper's system is ``full``, which takes minutes a volume.
        most_components: greatest number of Gaussians that BIC chooses from, 2 to 8.
        iterations: of expectation maximisation at most, 1 to 10,000.
        epochs: of the network at most, 0 to 10,000; each ends with a candidate (Steps 5 to 8).
        patience: epochs without a rise of the log-likelihood after which the network stops, 1 to 10,000.
        least_dice: a map takes the place of the one before only where the Dice of both is above it, 0 to 1 (paper: "a
            predefined threshold").
        side: slices are resampled to ``side`` x ``side`` pixels for the network, a multiple of 32, 32 to 512.
        width: features of the network's first level, a multiple of 4, 4 to 96; each further level has twice as many.
        learning_rate: of AdamW, above 0.
        batch: slices in a step of the network, 1 to 10,000.
        seed: of the network.
        keep: folder in which the network's stage of each volume is kept after every epoch, so that a prediction that was stopped
            goes on there; empty: nowhere.
        write: folder into which the lungs are also written as NIfTI and DICOM Segmentation, named after the sample; empty: none.
    """

    stage: str = "mgrf"
    most_components: int = 8
    iterations: int = 300
    epochs: int = 12
    patience: int = 3
    least_dice: float = 0.9
    side: int = 128
    width: int = 24
    learning_rate: float = 1e-3
    batch: int = 4
    seed: int = 0
    keep: str = ""
    write: str = ""

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InvalidSetting(f"stage must be one of {', '.join(STAGES)}; got {self.stage!r}.")
        if not 2 <= self.most_components <= 8:
            raise InvalidSetting(f"most_components must be 2 to 8; got {self.most_components}.")
        for name, least in (("iterations", 1), ("epochs", 0), ("patience", 1), ("batch", 1)):
            if not least <= getattr(self, name) <= _MOST:
                raise InvalidSetting(f"{name} must be {least} to {_MOST}; got {getattr(self, name)}.")
        if self.seed < 0:
            raise InvalidSetting(f"seed must be 0 or more; got {self.seed}.")
        if not 0 <= self.least_dice <= 1:
            raise InvalidSetting(f"least_dice must be 0 to 1; got {self.least_dice}.")
        if not 32 <= self.side <= 512 or self.side % _GRAIN:
            raise InvalidSetting(f"side must be a multiple of {_GRAIN}, 32 to 512; got {self.side}.")
        if not 4 <= self.width <= 96 or self.width % 4:
            raise InvalidSetting(f"width must be a multiple of 4, 4 to 96; got {self.width}.")
        if not self.learning_rate > 0:
            raise InvalidSetting(f"learning_rate must be above 0; got {self.learning_rate}.")
