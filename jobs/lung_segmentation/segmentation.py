"""Algorithm 1 for one volume, up to a stage; every intermediate is kept in the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.anatomy import LEFT, RIGHT, airways, enclosed_gas, lungs
from sensorium.jobs.lung_segmentation.appearance import Mixture, appearances, densities, fitted
from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.field import (
    LUNG,
    Evidence,
    agreement,
    labelled,
    likelihoods,
    potential,
    smoothed,
)
from sensorium.jobs.lung_segmentation.preparation import Volume

__all__ = ["Model", "Segmentation", "model_of", "segment"]

#: the appearance that a stage looks at alone
_SINGLE = {"lcg": 0, "lcg_min3": 1, "lcg_min5": 2}


@dataclass(frozen=True)
class Model:
    """What is known of a volume before any map: Steps 1 and 2.

    Attributes:
        volume: upright.
        mixtures: the LCG of each appearance.
        evidence: appearances and their densities; its body is the volume's without airways and gas.
        airways: trachea and main bronchi, bool [Z, Y, X].
    """

    volume: Volume
    mixtures: tuple[Mixture, ...]
    evidence: Evidence
    airways: NDArray[np.bool_]


@dataclass(frozen=True)
class Segmentation:
    """The result for a volume.

    Attributes:
        model: what it was made with.
        labels: the last map, uint8 [Z, Y, X]: 0 outside the body and in airways and gas, 1 chest, 2 lung; upright.
        lungs: uint8 [Z, Y, X]: 1 the patient's right lung, 2 the left.
        strength: V_eq of the map.
        trace: joint log-likelihood per voxel of the body, of the map of the appearances, of the field and after each of the
            network's epochs, as far as the stage goes; higher is better.
    """

    model: Model
    labels: NDArray[np.uint8]
    lungs: NDArray[np.uint8]
    strength: float
    trace: tuple[float, ...]

    def ml(self, side: int) -> float:
        """Volume of a lung."""
        return float((self.lungs == side).sum()) * self.model.volume.voxel_ml

    @property
    def right_ml(self) -> float:
        """Of the patient's right lung."""
        return self.ml(RIGHT)

    @property
    def left_ml(self) -> float:
        """Of the patient's left lung."""
        return self.ml(LEFT)


def model_of(volume: Volume, config: LungConfig) -> Model:
    """Appearances and the LCG of each (Steps 1 and 2); for a stage that looks at one of them, of that one.

    Raises:
        InvalidSample: the histogram has no mode of lungs or of a chest.
    """
    chosen = _SINGLE.get(config.stage)
    tubes = airways(volume)
    within = volume.body & ~(tubes | enclosed_gas(volume))
    seen = appearances(volume.hu, within)
    seen = seen if chosen is None else (seen[chosen],)
    mixtures = tuple(fitted(one, within, config.most_components, config.iterations) for one in seen)
    tables = np.stack([densities(one) for one in mixtures])
    return Model(volume, mixtures, Evidence(seen, tables, within), tubes)


def narrowed(model: Model, stage: str) -> Model:
    """A model of three appearances as that of a stage which may look at one of them."""
    if stage not in _SINGLE or len(model.mixtures) == 1:
        return model
    number = _SINGLE[stage]
    return replace(model, mixtures=(model.mixtures[number],), evidence=model.evidence.only((number,)))


def segment(
    volume: Volume, config: LungConfig, *, model: Model | None = None, keep: Path | None = None
) -> Segmentation:
    """Find the lungs.

    Args:
        volume: upright.
        config: says how far.
        model: of the volume and all three appearances, where it was fitted before.
        keep: file in which the network's stage is kept after each epoch, and from which it goes on after a stop.

    Raises:
        InvalidSample: see :func:`model_of`.
    """
    own = narrowed(model, config.stage) if model is not None else model_of(volume, config)
    labels = labelled(own.evidence)
    strength = potential(agreement(labels))
    trace: tuple[float, ...] = (_mean(own.evidence, labels, strength),)
    if config.stage in ("mgrf", "full"):
        labels = smoothed(own.evidence, labels, strength)
        strength = potential(agreement(labels))
        trace = (*trace, _mean(own.evidence, labels, strength))
    if config.stage == "full":
        from sensorium.jobs.lung_segmentation.refinement import refined  # imports torch

        labels, strength, further = refined(own.evidence, labels, config, keep)
        trace = (*trace, *further)
    return Segmentation(own, labels, lungs(volume, labels == LUNG, own.evidence.body), strength, trace)


def _mean(evidence: Evidence, labels: NDArray[np.uint8], strength: float) -> float:
    voxels = int(np.count_nonzero(labels))
    return float(likelihoods(evidence, labels, strength).sum(dtype=np.float64)) / voxels
