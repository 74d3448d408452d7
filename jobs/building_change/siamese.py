"""FC-Siam-diff, a baseline: a U-Net whose encoder sees both dates, and whose skips are absolute differences.

Caye Daudt, Le Saux, Boulch: Fully Convolutional Siamese Networks for Change Detection, ICIP 2018
(https://arxiv.org/abs/1810.08462), Fig. 1c; channels, blocks and dropout are theirs.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["SiameseDifference"]

_DROPOUT = 0.2
#: convolutions of each of the four resolutions on the way down
_DEPTHS = (2, 2, 3, 3)


def _convolutions(channels: int, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        convolution = nn.Conv2d(channels, width, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Dropout2d(_DROPOUT)]
        channels = width
    return nn.Sequential(*layers)


class SiameseDifference(nn.Module):
    """Standardised pictures of two dates [B, C, H, W] -> logits [B, 2, H, W]; H and W are multiples of 16."""

    def __init__(self, bands: int, base: int) -> None:
        super().__init__()
        widths = [base << level for level in range(len(_DEPTHS))]
        self.down, self.enlarge, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = bands
        for width, depth in zip(widths, _DEPTHS, strict=True):
            self.down.append(_convolutions(channels, [width] * depth))
            channels = width
        for level in reversed(range(len(_DEPTHS))):
            width, depth = widths[level], _DEPTHS[level]
            out = widths[max(0, level - 1)]
            self.enlarge.append(nn.ConvTranspose2d(channels, width, 2, stride=2))
            self.up.append(_convolutions(2 * width, [*[width] * (depth - 1), out]))
            channels = out
        self.halve = nn.MaxPool2d(2)
        self.classify = nn.Conv2d(channels, 2, 1)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Logits of no change and of change."""
        count, features, skips = before.shape[0], torch.cat([before, after]), []
        for down in self.down:
            features = down(features)
            skips.append((features[:count] - features[count:]).abs())
            features = self.halve(features)
        found = features[count:]  # the later date goes on, as in the original
        for enlarge, up, skip in zip(self.enlarge, self.up, reversed(skips), strict=True):
            found = up(torch.cat([enlarge(found), skip], dim=1))
        logits: torch.Tensor = self.classify(found)
        return logits
