"""Steps 5 to 8 of Algorithm 1: a network proposes maps, and regions of them are taken where the joint likelihood rises.

The network learns from the map of the moment, never from a truth. A candidate's *regions* are the connected parts in which it
differs from the map. Each is taken if the log-likelihood of its voxels and their neighbours rises; what is taken becomes the
map only if the log-likelihood of the whole (Eq. 4, potentials of the new map) rises and the Dice of old and new map stays
above the threshold (Algorithm 1 says below, the text of Section 2.5 above; only that keeps regions from being arbitrary).
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.field import (
    CHEST,
    LUNG,
    Evidence,
    agreement,
    likelihoods,
    posteriors,
    potential,
)
from sensorium.jobs.lung_segmentation.swin_unet import SwinUnet
from sensorium.jobs.training.context import alone
from sensorium.platform.optional import require

__all__ = ["improved", "refined"]

_log = logging.getLogger(__name__)


def improved(
    evidence: Evidence, labels: NDArray[np.uint8], candidate: NDArray[np.uint8], least_dice: float
) -> tuple[NDArray[np.uint8], float] | None:
    """The map with the regions of a candidate that raise the log-likelihood; and that, or None where nothing is taken.

    Args:
        evidence: of the appearances.
        labels: the map.
        candidate: another one of the same body.
        least_dice: of the lungs of both.

    Returns:
        The new map, and its log-likelihood as a sum over the body.
    """
    ndimage = require("scipy", "segment volumes").ndimage
    strength = potential(agreement(labels))
    before = likelihoods(evidence, labels, strength)
    gain = likelihoods(evidence, candidate, strength) - before
    everywhere = np.ones((3, 3, 3), bool)
    regions, count = ndimage.label(labels != candidate, everywhere)
    if not count:
        return None
    reach = ndimage.maximum_filter(regions, 3)  # with the neighbours, whose probability changes too
    gains = np.bincount(reach.ravel(), weights=gain.ravel().astype(np.float64), minlength=count + 1)
    gains[0] = 0
    chosen = np.where((gains > 0)[regions], candidate, labels)
    old, new = labels == LUNG, chosen == LUNG
    both = int(old.sum()) + int(new.sum())
    likelihood = float(likelihoods(evidence, chosen, potential(agreement(chosen))).sum(dtype=np.float64))
    if not both or 2 * int((old & new).sum()) / both <= least_dice:
        return None
    return (chosen, likelihood) if likelihood > float(before.sum(dtype=np.float64)) else None


def refined(
    evidence: Evidence, labels: NDArray[np.uint8], config: LungConfig, keep: Path | None = None
) -> tuple[NDArray[np.uint8], float, tuple[float, ...]]:
    """Train the network on a volume, and let it improve the map.

    Args:
        evidence: of the three appearances.
        labels: the map of Step 3.
        config: epochs and network.
        keep: file in which all is kept after each epoch; a later call with the same input goes on from it.

    Returns:
        The map, its V_eq, and the log-likelihood per voxel of the body after each epoch.
    """
    with _seeded(config.seed):
        network = SwinUnet(2 * len(evidence.seen), config.side, config.width).to(alone().device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
        key = _key(evidence, labels, config)
        body = int(np.count_nonzero(labels))
        state: dict[str, Any] = {"trace": [], "waited": 0}
        kept = _resumed(keep, key)
        if kept is not None:
            network.load_state_dict(kept["network"])
            optimiser.load_state_dict(kept["optimiser"])
            torch.set_rng_state(kept["random"])
            labels, state = kept["labels"].numpy(), {"trace": list(kept["trace"]), "waited": int(kept["waited"])}
        box = _box(evidence.body)
        now = float(likelihoods(evidence, labels, potential(agreement(labels))).sum(dtype=np.float64))
        inputs, targets = _slices(evidence, labels, box, config.side)
        while len(state["trace"]) < config.epochs and state["waited"] < config.patience:
            loss = _pass(network, optimiser, inputs, targets, config.batch)
            found = improved(evidence, labels, _candidate(network, inputs, labels, box, config), config.least_dice)
            state["waited"] += 1
            if found is not None:
                (labels, now), state["waited"] = found, 0
                inputs, targets = _slices(evidence, labels, box, config.side)
            state["trace"].append(now / body)
            _log.info("epoch %d: loss %.4f, log-likelihood a voxel %.5f", len(state["trace"]), loss, now / body)
            if keep is not None:
                _save(keep, key, network, optimiser, labels, state)
    return labels, potential(agreement(labels)), tuple(state["trace"])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from a seed, and afterwards those that others had."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _box(body: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns in which the body lies: the network sees no more."""
    sides = (np.flatnonzero(body.any(axis=(0, other))) for other in (2, 1))
    first, second = (slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    return first, second


def _slices(
    evidence: Evidence, labels: NDArray[np.uint8], box: tuple[slice, slice], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input [Z, 6, side, side] and target [Z, 2, side, side]: shares of lung, and of the body, in each pixel."""
    strength = potential(agreement(labels))
    inputs, targets = [], []
    for place in range(len(labels)):
        channels = torch.from_numpy(posteriors(evidence, labels, strength, place, box))
        own = labels[place][box]
        truth = torch.from_numpy(np.stack([own == LUNG, own > 0]).astype(np.float32))
        inputs.append(functional.interpolate(channels[None], (side, side), mode="area")[0])
        targets.append(functional.interpolate(truth[None], (side, side), mode="area")[0])
    return torch.stack(inputs), torch.stack(targets)


def _pass(
    network: SwinUnet, optimiser: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor, batch: int
) -> float:
    """One pass over the slices with the cross-entropy of Eq. 12 within the body; the mean loss."""
    network.train()
    device = next(network.parameters()).device
    losses = []
    for chosen in torch.randperm(len(inputs)).split(batch):
        lung, inside = targets[chosen].to(device).unbind(1)
        logits = network(inputs[chosen].to(device))
        each = functional.binary_cross_entropy_with_logits(logits, lung, weight=inside, reduction="sum")
        loss = each / inside.sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


def _candidate(
    network: SwinUnet, inputs: torch.Tensor, labels: NDArray[np.uint8], box: tuple[slice, slice], config: LungConfig
) -> NDArray[np.uint8]:
    """The network's map."""
    network.eval()
    device = next(network.parameters()).device
    out = labels.copy()
    for first in range(0, len(inputs), config.batch):
        with torch.no_grad():
            logits = network(inputs[first : first + config.batch].to(device))[:, None].cpu()
        for place, one in enumerate(logits, first):
            window = out[place][box]
            wide = functional.interpolate(one[None], window.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
            window[window > 0] = np.where(wide > 0, LUNG, CHEST)[window > 0]
    return out


# -- resuming -----------------------------------------------------------------------------------------------------------


def _key(evidence: Evidence, labels: NDArray[np.uint8], config: LungConfig) -> str:
    """Of everything that the result depends on."""
    found = hashlib.sha256(repr(replace(config, keep="", write="")).encode())
    for part in (evidence.seen[0], evidence.tables, labels):
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def _save(
    keep: Path,
    key: str,
    network: SwinUnet,
    optimiser: torch.optim.Optimizer,
    labels: NDArray[np.uint8],
    state: dict[str, Any],
) -> None:
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial = keep.with_name(keep.name + ".part")
    held = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
    torch.save({"key": key, "labels": torch.from_numpy(labels), **held, **state}, partial)
    partial.replace(keep)  # whole or not at all


def _resumed(keep: Path | None, key: str) -> dict[str, Any] | None:
    """What was kept of the same volume and settings; None where there is none, or it cannot be read."""
    if keep is None or not keep.is_file():
        return None
    try:
        held: Any = torch.load(keep, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        _log.warning("%s cannot be read (%s): the network begins anew", keep, error)
        return None
    return held if isinstance(held, dict) and held.get("key") == key else None
