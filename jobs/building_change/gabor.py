"""The Gabor encoder: depthwise convolutions whose learnt filters are multiplied by fixed Gabor filters (section 2.1).

Shapes: B pictures, H, W pixels, C channels, U orientations, K the side of a filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

__all__ = ["ORIENTATIONS", "SIDE", "GaborConvolution", "GaborEncoder", "bank"]

#: U of the paper: horizontal, vertical and the two diagonals
ORIENTATIONS = 4
#: K of the paper
SIDE = 7


def bank(
    scale: int, variant: str = "paper", orientations: int = ORIENTATIONS, side: int = SIDE
) -> npt.NDArray[np.float64]:
    """Real parts of the Gabor filters of Eq. 1, [U, K, K]; rows are y, columns x, both counted from the middle.

    Args:
        scale: v, from 1; each further one lowers the frequency by sqrt(2).
        variant: ``paper``: sigma = 2 pi; ``reference``: sigma = pi, and each filter is scaled to [0, 1].
        orientations: U; the wave of filter u runs along the angle u pi / U.
        side: K.
    """
    sigma = 2 * np.pi if variant == "paper" else np.pi
    frequency = np.pi / 2 / math.sqrt(2) ** (scale - 1)
    places = np.arange(side) - (side - 1) / 2
    y, x = np.meshgrid(places, places, indexing="ij")
    angles = (np.arange(orientations) * np.pi / orientations)[:, None, None]
    envelope = frequency**2 / sigma**2 * np.exp(-(frequency**2) * (x**2 + y**2) / (2 * sigma**2))
    wave = np.cos(frequency * (np.cos(angles) * x + np.sin(angles) * y)) - np.exp(-(sigma**2) / 2)
    filters: npt.NDArray[np.float64] = envelope * wave
    if variant == "reference":
        low, high = (edge(filters, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
        filters = (filters - low) / (high - low)
    return filters


class GaborConvolution(nn.Module):
    """GDConv: [B, C, H, W] -> [B, C, H / stride, W / stride], each channel by one filter (Eqs. 2, 3 and 5).

    A learnt filter is shared by U neighbouring channels, each of which multiplies it by the Gabor filter of one orientation.
    """

    def __init__(self, channels: int, scale: int, stride: int, variant: str) -> None:
        super().__init__()
        filters = torch.from_numpy(bank(scale, variant)).float()
        # products of the size that a plain convolution begins with: Eq. 1 alone would make the signal some 30 times smaller
        deviation = 1 / math.sqrt(SIDE**2 * float(filters.square().mean()))
        self.weight = nn.Parameter(torch.randn(channels // ORIENTATIONS, 1, SIDE, SIDE) * deviation)  # [C / U, 1, K, K]
        self.register_buffer("filters", filters, persistent=False)  # [U, K, K]
        self._stride = stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        kernels = (self.weight * cast("torch.Tensor", self.filters)).reshape(-1, 1, SIDE, SIDE)  # [C, 1, K, K]
        return functional.conv2d(features, kernels, stride=self._stride, padding=SIDE // 2, groups=kernels.shape[0])


class GaborEncoder(nn.Module):
    """A grey picture [B, 1, H, W] -> features [B, C_i, H / 2^i, W / 2^i] for i = 1, 2, ... (Fig. 2)."""

    def __init__(self, channels: Sequence[int], variant: str) -> None:
        super().__init__()
        self._copies = channels[0]
        self.stages = nn.ModuleList()
        for index, width in enumerate(channels):
            self.stages.append(
                nn.Sequential(
                    # the first stage gets as many copies of the grey picture instead
                    nn.Conv2d(channels[index - 1], width, 1, bias=False) if index else nn.Identity(),
                    GaborConvolution(width, 1, 1, variant),
                    GaborConvolution(width, 2, 2, variant),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                )
            )

    def forward(self, grey: torch.Tensor) -> list[torch.Tensor]:
        """Features from fine to coarse."""
        features, found = grey.expand(-1, self._copies, -1, -1), []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return found
