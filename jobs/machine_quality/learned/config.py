"""Configuration of the learned metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting

__all__ = ["NETWORKS", "LearnedConfig"]

NETWORKS = {
    "mobilenet_pair": "MobileNetV3-small, pair, MLP",
    "resnet_subset": "ResNet-18, pair, linear head",
    "grey_cnn": "CNN of the grey compressed crop",
}


def _fit() -> FitOptions:
    return FitOptions(
        epochs=30, batch_size=64, lr=1e-3, weight_decay=1e-4, schedule="cosine", watch="srcc", watch_mode="max"
    )


def _split() -> SplitOptions:
    return SplitOptions(group="image_id", folds=5, validation=0.15)


@dataclass(frozen=True)
class LearnedConfig:
    """How the loss of a machine's performance is predicted from crops.

    The general model of the paper is ``mobilenet_pair`` fitted on the crops of all tasks together.

    Attributes:
        network: ``mobilenet_pair`` (detection, the paper's Fig. 5), ``resnet_subset`` (recognition, Fig. 8) or ``grey_cnn``
            (plates, Fig. 10; looks at the compressed crop alone).
        width: of the network, as a share of its usual channels, above 0 (1 in the papers of MobileNetV3 and ResNet).
        hidden: units of the MLP's hidden layer (assumed; the paper gives none).
        target: scalar field that is predicted; ``score`` is the main number of each crop's task.
        fit: epochs, batch size and learning rate are assumed; the paper gives none. Weights begin at random: the paper's
            may begin from those of a classifier, which it does not say.
        split: by source image, so that no picture is on two sides.
    """

    network: str = "mobilenet_pair"
    width: float = 1.0
    hidden: int = 128
    target: str = "score"
    fit: FitOptions = field(default_factory=_fit)
    split: SplitOptions = field(default_factory=_split)

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise InvalidSetting(f"network must be one of {', '.join(NETWORKS)}; got {self.network!r}.")
        if not 0 < self.width <= 4:
            raise InvalidSetting(f"width must be above 0, at most 4; got {self.width}.")
        if self.hidden < 1:
            raise InvalidSetting(f"hidden must be 1 or more; got {self.hidden}.")
        if not self.target:
            raise InvalidSetting("target must name a field.")
