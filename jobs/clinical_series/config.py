"""Configuration of ``clinical_series``: MVMformer, its ablations, and two networks to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting

__all__ = ["ARCHITECTURES", "ATTENTIONS", "GRAPHS", "STATICS", "ClinicalConfig"]

ARCHITECTURES = ("mvmformer", "gru_d", "triplet_transformer")
ATTENTIONS = ("kernelised", "vanilla")
GRAPHS = ("semantic", "clustered", "affinity", "single")

#: descriptors of PhysioNet 2012 as static features; ``name=value`` is 1 where the scalar has that value, else 0
STATICS = ("age", "gender", "height_cm", "weight_kg", *(f"icu_type={kind}" for kind in (1, 2, 3, 4)))


def _fit() -> FitOptions:
    return FitOptions(epochs=100, batch_size=16, lr=5e-4, patience=10, watch="auroc", watch_mode="max")


def _split() -> SplitOptions:
    return SplitOptions(group="id", stratify="in_hospital_death", folds=5, validation=1 / 9)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class ClinicalConfig:
    """What a network is, and how it is fitted.

    Attributes:
        architecture: ``mvmformer``; or, to compare with, ``gru_d`` (recurrent) or ``triplet_transformer``.
        lengths: segment lengths of each layer in hours, above 0 (paper: 3 layers of 4 lengths, section 5.1).
        heads: heads of each layer; every length has the same number (paper: 8, 2 per length).
        time_dim: width of the time embeddings of all heads together, 2 per head or more (paper: d_t = 64).
        value_dim: width of the values of all heads together, and of the embedding of their density (paper: d_x = 32).
        hidden: width of observations between layers, and of the graph (paper: does not say; 64 is Eq. 12 with d = 32).
        reference_points: points per segment at which density is taken, 2 or more (paper: M, does not say; a step takes a
            third longer with 8).
        dropout: share of features dropped in training, [0, 1) (paper: does not say).
        attention: ``kernelised``, or ``vanilla`` self-attention of the observations of a series (Table 3, rows 1 and 6).
        multi_scale: heads have different lengths; else all have ``single_length`` (Table 3, row 2).
        single_length: hours; for ``multi_scale=False`` (paper: does not say; 17 occurs in two of its layers).
        value_unit: attention gathers what was observed; else only when (Table 3, rows 1 to 3).
        density_unit: segments have an embedding of their temporal density, too (Table 3).
        graph: ``semantic`` (organs; ours), ``clustered`` (two levels, groups of variables from the training data; Table 4,
            row 2), ``affinity`` (one level, weight 1 within an organ; row 3), ``single`` (one level, all learned; row 1).
        statics: scalars of a sample that the prediction sees beside the series; ``name=value`` is 1 where the scalar has
            that value, else 0. Paper: none, it counts series only; the descriptors of PhysioNet 2012 are the default all
            the same, since every network is better with them. Empty for other data, or to do as the paper does.
        target: scalar field with the outcome, 0 or 1 (paper: death in hospital).
        fit: paper: Adam, rate 0.0005, batches of 16, 100 epochs; that the best epoch by validation AUROC is kept, and that
            a fit stops after 10 without improvement, is assumed.
        split: each stay on its own, as many deaths in every part; paper: 5 folds, 8:1:1, so 1/9 of the rest for validation.
            With another ``target``, set ``split.stratify`` too.
    """

    architecture: str = "mvmformer"
    lengths: tuple[tuple[float, ...], ...] = (
        (5.0, 9.0, 13.0, 17.0),
        (13.0, 17.0, 21.0, 25.0),
        (21.0, 25.0, 29.0, 33.0),
    )
    heads: int = 8
    time_dim: int = 64
    value_dim: int = 32
    hidden: int = 64
    reference_points: int = 4
    dropout: float = 0.2
    attention: str = "kernelised"
    multi_scale: bool = True
    single_length: float = 17.0
    value_unit: bool = True
    density_unit: bool = True
    graph: str = "semantic"
    statics: tuple[str, ...] = STATICS
    target: str = "in_hospital_death"
    fit: FitOptions = field(default_factory=_fit)
    split: SplitOptions = field(default_factory=_split)

    def __post_init__(self) -> None:
        for name, known in (("architecture", ARCHITECTURES), ("attention", ATTENTIONS), ("graph", GRAPHS)):
            if getattr(self, name) not in known:
                raise InvalidSetting(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        for name in ("heads", "time_dim", "value_dim", "hidden"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} must be 1 or more; got {getattr(self, name)}.")
        self._check_lengths()
        if self.value_dim % self.heads:
            raise InvalidSetting(f"value_dim must be a multiple of heads = {self.heads}; got {self.value_dim}.")
        if self.time_dim % (2 * self.heads):
            raise InvalidSetting(f"time_dim must be a multiple of 2 x heads = {2 * self.heads}; got {self.time_dim}.")
        if self.reference_points < 2:
            raise InvalidSetting(f"reference_points must be 2 or more; got {self.reference_points}.")
        if not 0 <= self.dropout < 1:
            raise InvalidSetting(f"dropout must be in [0, 1); got {self.dropout}.")
        if self.attention == "vanilla" and self.multi_scale:
            raise InvalidSetting(
                "vanilla attention has no scales: set multi_scale=false with it; got multi_scale=True."
            )
        self._check_fields()

    def _check_fields(self) -> None:
        if not self.target:
            raise InvalidSetting(f"target must name a field; got {self.target!r}.")
        if len(set(self.statics)) < len(self.statics):
            raise InvalidSetting(f"statics must name each scalar once; got {self.statics}.")
        for static in self.statics:
            name, mark, value = static.partition("=")
            if not name or (mark and not _is_number(value)) or name == self.target:
                raise InvalidSetting(
                    f"statics must be scalars other than the target, as NAME or NAME=NUMBER; got {static!r}."
                )

    def _check_lengths(self) -> None:
        if not self.lengths or not all(self.lengths):
            raise InvalidSetting(
                f"lengths must have one layer or more, each of one length or more; got {self.lengths}."
            )
        for length in (self.single_length, *(length for layer in self.lengths for length in layer)):
            if not (math.isfinite(length) and length > 0):
                raise InvalidSetting(f"a segment length must be above 0 h and finite; got {length}.")
        for layer in self.lengths:
            if self.heads % len(layer):
                raise InvalidSetting(
                    f"heads must be a multiple of the lengths of a layer; got {self.heads} heads for {len(layer)} lengths."
                )

    def static_fields(self) -> tuple[str, ...]:
        """Names of the scalars that ``statics`` look at, each once."""
        return tuple(dict.fromkeys(static.partition("=")[0] for static in self.statics))

    def head_lengths(self) -> tuple[tuple[float, ...], ...]:
        """Hours, per layer and head: each length for its share of neighbouring heads."""
        if not self.multi_scale:
            return tuple((self.single_length,) * self.heads for _ in self.lengths)
        return tuple(
            tuple(length for length in layer for _ in range(self.heads // len(layer))) for layer in self.lengths
        )
