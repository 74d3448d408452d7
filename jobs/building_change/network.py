"""AYANet: two encoders with shared weights for both dates, conjunction of their features, decoder (Figs. 2 and 4).

Shapes: B pairs, C bands, H, W pixels (multiples of 16), features of resolution i have H / 2^i x W / 2^i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.efficientnet import EfficientStages, stage_channels
from sensorium.jobs.building_change.gabor import GaborEncoder
from sensorium.jobs.building_change.siamese import SiameseDifference

__all__ = ["AYANet", "Conjunction", "Decoder", "Standardised", "build", "parameters"]

#: of red, green and blue (ITU-R BT.601); other numbers of bands have a mean
_LUMA = (0.299, 0.587, 0.114)


class Conjunction(nn.Module):
    """Feature Conjunction Module: features of two dates [B, C, h, w] each -> one [B, C, h, w] (section 2.2, Fig. 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(6 * channels, channels, 1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """What appeared, what vanished, what was exchanged, what stayed."""
        difference, exchanged = first - second, torch.maximum(first, second) - torch.minimum(first, second)
        kinds = [first, second, difference, -difference, exchanged, first + second]
        mixed: torch.Tensor = self.mix(torch.cat(kinds, dim=1))
        return mixed


def _activated(channels: int, out: int, kernel: int) -> nn.Sequential:
    """Normalisation and ReLU before a convolution, as the decoder that the paper takes over has them."""
    convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), convolution)


class _Up(nn.Module):
    """Coarser features, enlarged, plus those of the conjunction; then one convolution."""

    def __init__(self, channels: int, skip: int, out: int) -> None:
        super().__init__()
        self.skip, self.blend = _activated(skip, channels, 1), _activated(channels, out, 3)

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        enlarged = functional.interpolate(features, skip.shape[-2:], mode="bilinear", align_corners=False)
        blended: torch.Tensor = self.blend(enlarged + self.skip(skip))
        return blended


class Decoder(nn.Module):
    """Conjugated features, fine to coarse -> logits [B, 2, H, W].

    Before the way up, features go down once more: each resolution's are halved and put beside those of the next, so that
    the coarsest know of all. The paper takes this decoder from another network and draws it only; with it, the whole has the
    number of parameters of the published network.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        above = [channels[0], *(2 * width for width in channels[1:-1])]
        self.down = nn.ModuleList(
            nn.Conv2d(wide, out, 3, stride=2, padding=1, bias=False)
            for wide, out in zip(above, channels[1:], strict=True)
        )
        entering = [2 * channels[-1], *reversed(channels[1:])]
        self.up = nn.ModuleList(
            _Up(wide, width, width) for wide, width in zip(entering, reversed(channels), strict=True)
        )
        self.classify = nn.Sequential(
            nn.ConvTranspose2d(channels[0], channels[0], 4, stride=2, padding=1),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels[0], 2, 1),
        )

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits of no change and of change."""
        gathered = features[0]
        for halve, own in zip(self.down, features[1:], strict=True):
            gathered = torch.cat([halve(gathered), own], dim=1)
        for up, own in zip(self.up, reversed(features), strict=True):
            gathered = up(gathered, own)
        logits: torch.Tensor = self.classify(gathered)
        return logits


class AYANet(nn.Module):
    """Standardised pictures of two dates [B, C, H, W] -> logits [B, 2, H, W].

    Attributes:
        cnn, gabor: the encoders; None where an ablation leaves one out.
        conjunctions: one for each resolution.
        decoder: what follows.
    """

    def __init__(self, bands: int, config: ChangeConfig) -> None:
        super().__init__()
        widths = stage_channels(config.width)
        self.cnn = self.gabor = None
        if config.encoder != "gabor":
            self.cnn = EfficientStages(bands, config.width, config.depth, config.drop_connect)
        if config.encoder != "cnn":
            self.gabor = GaborEncoder(widths, config.gabor)
        channels = [2 * width if config.encoder == "both" else width for width in widths]
        self.conjunctions = nn.ModuleList(Conjunction(width) for width in channels)
        self.decoder = Decoder(channels)
        weights = _LUMA if bands == len(_LUMA) else (1 / bands,) * bands
        self.register_buffer("grey", torch.tensor(weights).reshape(1, -1, 1, 1), persistent=False)

    def encoded(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Features of single pictures [B, C, H, W], of both encoders beside each other, fine to coarse."""
        found: list[list[torch.Tensor]] = []
        if self.gabor is not None:
            found.append(self.gabor((pictures * cast("torch.Tensor", self.grey)).sum(dim=1, keepdim=True)))
        if self.cnn is not None:
            found.append(self.cnn(pictures))
        return found[0] if len(found) == 1 else [torch.cat(pair, dim=1) for pair in zip(*found, strict=True)]

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Both dates go through the encoders as one batch: the weights, and the statistics of a batch, are shared."""
        count = before.shape[0]  # exporters follow slices where they would fix the size of a batch by chunk
        both = self.encoded(torch.cat([before, after]))
        joined = [join(one[:count], one[count:]) for join, one in zip(self.conjunctions, both, strict=True)]
        logits: torch.Tensor = self.decoder(joined)
        return logits


class Standardised(nn.Module):
    """A network that takes raw values of the bands, which it standardises by the statistics of its training part."""

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).float().reshape(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).float().reshape(1, -1, 1, 1))

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Raw pictures [B, C, H, W] float32 -> logits [B, 2, H, W]."""
        mean, deviation = cast("torch.Tensor", self.mean), cast("torch.Tensor", self.deviation)
        logits: torch.Tensor = self.network((before - mean) / deviation, (after - mean) / deviation)
        return logits


def build(config: ChangeConfig, preprocessing: Mapping[str, Any]) -> Standardised:
    """The network of a configuration for the bands of its training part, with fresh weights."""
    bands = len(preprocessing["mean"])
    network = SiameseDifference(bands, config.base) if config.network == "fc_siam_diff" else AYANet(bands, config)
    return Standardised(network, preprocessing["mean"], preprocessing["deviation"])


def parameters(network: nn.Module) -> dict[str, int]:
    """Number of parameters of each part of a network, by name."""
    return {name: sum(one.numel() for one in part.parameters()) for name, part in network.named_children()}
