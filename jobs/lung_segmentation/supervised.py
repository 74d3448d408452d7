"""A rival that learns from masks: a small 2-D U-Net on axial slices, fitted on pieces of simulated chests held apart.

As in the paper's Table 2, where such networks saw other volumes with masks; smaller, and without their data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sensorium.jobs.lung_segmentation.phantom import Phantom
from sensorium.jobs.lung_segmentation.preparation import Volume, prepared
from sensorium.jobs.training.context import alone

__all__ = ["UNet", "fitted_unet"]

_WIDTHS = (12, 24, 48, 96)
_BATCH = 8
#: pixels of a side of a piece, a multiple of 8
_SIDE = 96
_RATE = 2e-3
#: HU that become -1 and 1
_WINDOW = (-1000.0, 200.0)


class _Pair(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        layers: list[nn.Module] = []
        for first in (before, after):
            layers += [nn.Conv2d(first, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Slices [B, 1, H, W] to logits of lung [B, H, W]; sides are multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Pair(before, after) for before, after in pairwise((1, *_WIDTHS)))
        coarse = list(reversed(_WIDTHS))
        self.up = nn.ModuleList(_Pair(low + high, high) for low, high in pairwise(coarse))
        self.out = nn.Conv2d(_WIDTHS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        skips = []
        for level, pair in enumerate(self.down):
            x = pair(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for pair in self.up:
            x = pair(torch.cat([functional.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        return torch.as_tensor(self.out(x)[:, 0])


def fitted_unet(chests: Sequence[Phantom], steps: int, seed: int) -> Callable[[Volume], NDArray[np.bool_]]:
    """Fit on simulated chests; the result labels lung in a volume, bool [Z, Y, X].

    Args:
        chests: on grids of one size, with masks of both lungs.
        steps: of the optimiser, each on a few pieces of axial slices.
        seed: of the network and the choice of pieces.
    """
    device = alone().device
    slices = torch.cat([_slices(prepared({"id": "held", "volume": one.hu, "spacing": one.spacing})) for one in chests])
    truths = torch.cat([_padded(torch.from_numpy((one.lungs > 0).astype(np.float32))) for one in chests])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet().to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
        for _ in range(steps):
            own, wanted = _pieces(slices, truths)
            loss = functional.binary_cross_entropy_with_logits(network(own.to(device)), wanted.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
    return partial(_labelled, network)


def _pieces(slices: Tensor, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Random pieces [B, 1, S, S] of random slices, and their truths [B, S, S]."""
    height, width = truths.shape[1], truths.shape[2]
    tall, wide = min(_SIDE, height), min(_SIDE, width)
    own, wanted = [], []
    for place in torch.randint(len(slices), (_BATCH,)).tolist():
        y = int(torch.randint(height - tall + 1, ()))
        x = int(torch.randint(width - wide + 1, ()))
        own.append(slices[place, :, y : y + tall, x : x + wide])
        wanted.append(truths[place, y : y + tall, x : x + wide])
    return torch.stack(own), torch.stack(wanted)


def _labelled(network: UNet, volume: Volume) -> NDArray[np.bool_]:
    """What the network labels lung, bool [Z, Y, X]."""
    own = _slices(volume)
    device = next(network.parameters()).device
    rows, columns = volume.hu[0].shape
    out = np.empty(volume.hu.shape, bool)
    for first in range(0, len(own), _BATCH):
        with torch.no_grad():
            logits = network(own[first : first + _BATCH].to(device)).cpu().numpy()
        out[first : first + _BATCH] = logits[:, :rows, :columns] > 0
    return out & volume.body


def _slices(volume: Volume) -> Tensor:
    """Axial slices through a window, float32 [Z, 1, H, W]."""
    low, high = _WINDOW
    scaled = (volume.hu.clip(low, high).astype(np.float32) - low) * (2 / (high - low)) - 1
    return _padded(torch.from_numpy(scaled), -1.0)[:, None]


def _padded(planes: Tensor, value: float = 0.0) -> Tensor:
    """Planes [Z, Y, X] with both sides made multiples of 8 at their ends."""
    return functional.pad(planes, (0, -planes.shape[2] % 8, 0, -planes.shape[1] % 8), value=value)
