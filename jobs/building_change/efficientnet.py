"""The first four MBConv stages of an EfficientNet, whose features are 2, 4, 8 and 16 times coarser than the picture.

Blocks are those of the library transformers. Its own initialisation is for nets that are loaded: it begins the gains of batch
normalisation near 0. Its blocks are left out value by value. Both are replaced here by what EfficientNet's authors have
(https://arxiv.org/abs/1905.11946 and their code): He initialisation, and whole blocks left out (stochastic depth).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["EfficientStages", "load_weights", "stage_channels"]

#: of EfficientNet-B0, before width and depth: channels, repeats of a block, kernel, stride, expansion of the first four stages
_CHANNELS, _REPEATS, _KERNELS, _STRIDES, _EXPANSIONS = (
    (16, 24, 40, 80),
    (1, 2, 2, 3),
    (3, 3, 5, 3),
    (1, 2, 2, 2),
    (1, 6, 6, 6),
)
#: repeats of the three stages that are not used; the chance of leaving a block out is a share of all
_FURTHER = (3, 4, 1)
_STEM = 32


def stage_channels(width: float) -> list[int]:
    """Channels of the four stages; multiples of 8, as EfficientNet rounds them."""
    return [_rounded(channels * width) for channels in _CHANNELS]


def _rounded(channels: float) -> int:
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class _DropConnect(nn.Module):
    """Leaves a block's own contribution [B, C, H, W] out for some of the pictures, and scales the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """In evaluation mode the features as they are."""
        if not (self.training and self._rate):
            return features
        kept = torch.rand(features.shape[0], 1, 1, 1, device=features.device) >= self._rate
        return features * kept / (1 - self._rate)


def _configuration(bands: int, width: float, depth: float) -> Any:
    return require("transformers", "build an EfficientNet").EfficientNetConfig(
        num_channels=bands,
        width_coefficient=width,
        depth_coefficient=depth,
        in_channels=[_STEM, *_CHANNELS[:-1]],
        out_channels=list(_CHANNELS),
        kernel_sizes=list(_KERNELS),
        strides=list(_STRIDES),
        num_block_repeats=list(_REPEATS),
        expand_ratios=list(_EXPANSIONS),
        batch_norm_momentum=0.1,  # as in all other parts; EfficientNet's own 0.01 is for fits of very many steps
        drop_connect_rate=0.0,
        hidden_dim=8,  # of the head, which is not kept
    )


class EfficientStages(nn.Module):
    """A picture [B, C, H, W] -> features [B, C_i, H / 2^i, W / 2^i], i = 1 to 4."""

    def __init__(self, bands: int, width: float, depth: float, drop_connect: float) -> None:
        super().__init__()
        whole = require("transformers", "build an EfficientNet").EfficientNetModel(_configuration(bands, width, depth))
        self.stem, self.blocks = whole.embeddings, whole.encoder.blocks
        repeats = [math.ceil(count * depth) for count in _REPEATS]
        total = sum(repeats) + sum(math.ceil(count * depth) for count in _FURTHER)
        for number, block in enumerate(self.blocks):
            block.projection.dropout = _DropConnect(drop_connect * number / total)
        bounds = [0]
        for count in repeats:
            bounds.append(bounds[-1] + count)
        self._stages = list(pairwise(bounds))
        self.apply(_begin)

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Features from fine to coarse."""
        features, found = self.stem(pictures), []
        for begin, end in self._stages:
            for block in self.blocks[begin:end]:
                features = block(features)
            found.append(features)
        return found


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def load_weights(stages: EfficientStages, source: str) -> None:
    """Begin with the weights of a whole EfficientNet, a folder or a hub id; files are safetensors, never pickles.

    Raises:
        InvalidSetting: it cannot be read, or its stages have other shapes.
    """
    models = require("transformers", "load an EfficientNet")
    try:
        whole = models.EfficientNetModel.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InvalidSetting(
            f"weights {source!r} cannot be loaded: {text:.300}. Give a folder with config.json and model.safetensors, or "
            "leave weights empty."
        ) from error
    blocks = whole.encoder.blocks[: len(stages.blocks)]
    try:
        stages.stem.load_state_dict(whole.embeddings.state_dict())
        stages.blocks.load_state_dict(blocks.state_dict())
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise InvalidSetting(
            f"weights {source!r} do not fit {stages.stem.convolution.in_channels} bands and stages of this width and depth: "
            f"{text:.300}. Set width and depth to theirs (B7: 2.0 and 3.1), or leave weights empty."
        ) from error
