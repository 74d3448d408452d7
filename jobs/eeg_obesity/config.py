"""Configuration of the EEG system: signals, networks and simple classifiers.

"Paper" is Yue et al., ICPR 2024, whose sections are given. Where it is silent, the value is called *assumed*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting

__all__ = ["CHANNELS", "Architecture", "EegConfig", "Features"]

#: the 19 electrodes of the international 10–20 system, from front to back and left to right
CHANNELS = (
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8"),
    *("T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6", "O1", "O2"),
)

#: what of the encoder is classified
Features = Literal["spatial", "latent"]
#: ``vae_cnn``: the paper's; ``cnn``: its 1-D CNN on the signals themselves; ``eegnet``: the baseline EEGNet
Architecture = Literal["vae_cnn", "cnn", "eegnet"]


def _vae_fit() -> FitOptions:
    return FitOptions(epochs=500, batch_size=26, lr=5e-4, patience=20)


def _fit() -> FitOptions:
    return FitOptions(epochs=200, batch_size=200, lr=1e-3, patience=20)


def _split() -> SplitOptions:
    return SplitOptions(group="subject", stratify="label", folds=10, validation=1 / 9)


@dataclass(frozen=True)
class EegConfig:
    """Signals, networks and simple classifiers.

    Attributes:
        architecture: ``vae_cnn`` (the paper's), ``cnn`` (its ablation: the same CNN on the signals, section 4) or
            ``eegnet`` (its baseline, Table 2).
        readings: array field with the signal [C, T].
        target: scalar field with the class of a recording, which all of its epochs have.
        channels: electrodes in their order in every array, by the names of :data:`CHANNELS`. Paper: all 19 (2.1).
        rate: sampling rate after resampling, Hz, above twice ``high``. Paper: 128 (2.1).
        low: lower edge of the band-pass, Hz, above 0. Paper: 0.1 (2.1).
        high: upper edge of the band-pass, Hz. Paper: 45 (2.1).
        cut: seconds dropped at the start of every recording. Paper: 5 (2.1).
        epoch: length of an epoch, s. Paper: 10, that is 1280 values (2.1).
        most_epochs: epochs taken of a recording at most, the first ones. Paper: 26, all of about 5 min but the rest (2.1).
        temporal_kernel: length of the temporal filters, values. Paper: 64, half the rate (2.2).
        temporal_filters: temporal filters. EEGNet's F1; assumed 8.
        depth: spatial filters for each temporal one. EEGNet's D; assumed 2.
        separable_kernel: length of the separable filters, values after the first pooling. EEGNet's 16; assumed.
        separable_filters: filters after the separable convolution. EEGNet's F2 = F1 · D; assumed 16.
        latent: size of the latent space. Assumed 64.
        slope: of the leaky ReLU below zero. Assumed 0.2.
        features: what is classified: ``spatial``, the output of the encoder's spatial convolution [16, 1280], or
            ``latent``, the mean of the latent distribution. Paper: "encoder output" (2.2), measured by impurity and drawn
            on the head at the spatial convolution (3.2, 3.3).
        cnn_filters: filters of the three convolutions of the 1-D CNN. Paper: 8, 16, 32 (2.3).
        cnn_kernels: their lengths, values. Paper: 64, 32, 16 (2.3).
        cnn_pools: average pooling behind the second and the third. Paper: 4, 8 (2.3).
        cnn_dropout: behind each pooling, 0 to below 1. Paper: 0.25 (2.3).
        eegnet_dropout: of the baseline EEGNet. Lawhern et al. 2018: 0.25 across subjects.
        neighbours: of the nearest-neighbour classifier. Paper: 3 (2.3).
        trees: of the random forest. Paper: 50 (2.3).
        tree_depth: greatest depth of these. Paper: 10 (2.3).
        boosts: estimators of AdaBoost. Paper: 75 (2.3).
        boost_rate: learning rate of AdaBoost. Paper: 0.88 (2.3).
        gamma: of the RBF kernel, above 0; 0 is for 1 / number of features. Paper: that (2.3).
        balance: weigh the classes in every classifier's loss so that each counts the same. The paper's classes are of one
            size, where this changes nothing.
        vae_fit: of the autoencoder. Paper: Adam, rate 0.0005, batches of 26, up to 500 epochs, early stopping on the loss
            (2.4); on that of the validation subjects, after 20 epochs without improvement, are assumed.
        fit: of the classifier. Paper: Adam, rate 0.001, batches of 200, up to 200 epochs, stopped when the validation loss
            has not improved for 20 (2.4). Its seed is also that of all weights.
        split: by subject, as many of each class in every fold. Paper: 10 folds, 1/9 of the rest for validation (2.3).
    """

    architecture: Architecture = "vae_cnn"
    readings: str = "signal"
    target: str = "label"
    channels: tuple[str, ...] = CHANNELS
    rate: float = 128.0
    low: float = 0.1
    high: float = 45.0
    cut: float = 5.0
    epoch: float = 10.0
    most_epochs: int = 26
    temporal_kernel: int = 64
    temporal_filters: int = 8
    depth: int = 2
    separable_kernel: int = 16
    separable_filters: int = 16
    latent: int = 64
    slope: float = 0.2
    features: Features = "spatial"
    cnn_filters: tuple[int, int, int] = (8, 16, 32)
    cnn_kernels: tuple[int, int, int] = (64, 32, 16)
    cnn_pools: tuple[int, int] = (4, 8)
    cnn_dropout: float = 0.25
    eegnet_dropout: float = 0.25
    neighbours: int = 3
    trees: int = 50
    tree_depth: int = 10
    boosts: int = 75
    boost_rate: float = 0.88
    gamma: float = 0.0
    balance: bool = True
    vae_fit: FitOptions = field(default_factory=_vae_fit)
    fit: FitOptions = field(default_factory=_fit)
    split: SplitOptions = field(default_factory=_split)

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) < len(self.channels) or set(self.channels) - set(CHANNELS):
            raise InvalidSetting(f"channels must name electrodes among {', '.join(CHANNELS)}; got {self.channels}.")
        if not 0 < self.low < self.high < self.rate / 2:
            raise InvalidSetting(
                f"0 < low < high < rate / 2 must hold; got low {self.low}, high {self.high}, rate {self.rate}."
            )
        if self.cut < 0 or self.length < 32:
            raise InvalidSetting(
                f"cut must be 0 or more and an epoch 32 values at least; got cut {self.cut} s, epoch {self.epoch} s."
            )
        counts = (
            *(self.most_epochs, self.temporal_kernel, self.temporal_filters, self.depth, self.separable_kernel),
            *(self.separable_filters, self.latent, *self.cnn_filters, *self.cnn_kernels, *self.cnn_pools),
            *(self.neighbours, self.trees, self.tree_depth, self.boosts),
        )
        if min(counts) < 1:
            raise InvalidSetting(f"counts, kernels and sizes must be 1 or more; got {min(counts)} among them.")
        if not (0 <= self.cnn_dropout < 1 and 0 <= self.eegnet_dropout < 1):
            raise InvalidSetting(f"a dropout must be in [0, 1); got {self.cnn_dropout} and {self.eegnet_dropout}.")
        self._check_choices()
        if self.boost_rate <= 0 or self.slope < 0 or self.gamma < 0:
            raise InvalidSetting(
                "boost_rate must be above 0, gamma and slope 0 or more; "
                f"got {self.boost_rate}, {self.gamma}, {self.slope}."
            )

    def _check_choices(self) -> None:
        if self.features not in ("spatial", "latent"):
            raise InvalidSetting(f"features must be spatial or latent; got {self.features!r}.")
        if self.architecture not in ("vae_cnn", "cnn", "eegnet"):
            raise InvalidSetting(f"architecture must be vae_cnn, cnn or eegnet; got {self.architecture!r}.")
        if self.features == "latent" and self.latent < math.prod(self.cnn_pools):
            raise InvalidSetting(
                f"latent features are pooled by {math.prod(self.cnn_pools)}, the product of cnn_pools, so latent must be "
                f"that or more; got {self.latent}."
            )
        if not self.readings or not self.target:
            raise InvalidSetting(f"readings and target must name fields; got {self.readings!r} and {self.target!r}.")

    @property
    def length(self) -> int:
        """Values in an epoch (1280)."""
        return round(self.epoch * self.rate)
