"""Configuration of water_pollutants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting

__all__ = ["WaterConfig"]

Padding = Literal["valid", "same"]

_NETWORKS = ("cnn", "lstm", "rnn", "transformer")


def _fit() -> FitOptions:
    return FitOptions(epochs=10, batch_size=64, lr=0.01, patience=3, watch="accuracy", watch_mode="max")


def _split() -> SplitOptions:
    return SplitOptions(group="measurement", folds=10, validation=1 / 9)


@dataclass(frozen=True)
class WaterConfig:
    """How windows of sensor readings are classified.

    Attributes:
        network: ``cnn`` (the paper's own, Table 2), ``lstm``, ``rnn`` or ``transformer`` (its rivals).
        padding: of the CNN's convolutions, ``valid`` or ``same`` (the paper does not say).
        optimiser: ``sgd`` (paper; its momentum is not given) or ``adam``.
        momentum: of SGD (assumed).
        layout: ``recording``: the field holds [F, T] readings, which become windows; ``exposure``: it holds one ready
            window [W, F], such as sensors x features of a gas-sensor array, taken as it is.
        readings: array field that holds them.
        target: scalar field with the class; each window has that of its recording.
        leave_out: classes that are no pollutant: potable water is the baseline phase of all others (paper).
        period: of the moving average of Eq. 1, readings (the paper gives none; assumed).
        skip: readings dropped at the start (paper: 400).
        width: readings in a window (paper: 32).
        stride: readings from one window to the next in training (paper: 1); measured at stride 1 always.
        fit: epochs, batch size and learning rate are assumed; the paper gives none.
        split: by measurement, 10 folds (paper); neighbouring windows overlap, so a measurement is never torn.
    """

    network: str = "cnn"
    padding: Padding = "valid"
    optimiser: str = "sgd"
    momentum: float = 0.9
    layout: str = "recording"
    readings: str = "signal"
    target: str = "pollutant"
    leave_out: tuple[str, ...] = ("potable_water",)
    period: float = 100.0
    skip: int = 400
    width: int = 32
    stride: int = 1
    fit: FitOptions = field(default_factory=_fit)
    split: SplitOptions = field(default_factory=_split)

    def __post_init__(self) -> None:
        for name, choices in (
            ("network", _NETWORKS),
            ("padding", ("valid", "same")),
            ("optimiser", ("sgd", "adam")),
            ("layout", ("recording", "exposure")),
        ):
            if getattr(self, name) not in choices:
                raise InvalidSetting(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")
        if not 0 <= self.momentum < 1:
            raise InvalidSetting(f"momentum must be from 0 to below 1; got {self.momentum}.")
        if not self.period >= 1:
            raise InvalidSetting(f"period must be 1 reading or more; got {self.period}.")
        if self.skip < 0 or self.width < 1 or self.stride < 1:
            got = (self.skip, self.width, self.stride)
            raise InvalidSetting(f"skip must be 0 or more, width and stride 1 or more; got {got}.")
