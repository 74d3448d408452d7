"""Networks of the learned metrics (paper 18, Figs 5, 8 and 10).

Legend: B samples, N crops of a sample (1, or a subset that is judged together), H, W side lengths of the crops, D length of
an embedding. All take reference and compressed crops [B, N, 3, H, W], RGB in [0, 1], to a standardised score [B].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.jobs.machine_quality.learned.config import LearnedConfig

__all__ = ["CropMetric", "build", "grey_cnn", "mobilenet", "resnet"]

#: MobileNetV3-small (Howard et al. 2019, "Searching for MobileNetV3", Table 2): kernel, expanded channels, channels that go
#: out, squeeze-and-excite, hard swish, stride
_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_STEM, _LAST = 16, 576
#: channels of the four stages of ResNet-18 (He et al. 2016, Table 1), each of two blocks
_STAGES = (64, 128, 256, 512)
#: channels of the grey CNN (assumed; the paper says "a classic CNN")
_GREY = (16, 32, 64, 128)
#: luma of RGB, ITU-R BT.601
_LUMA = (0.299, 0.587, 0.114)


class CropMetric(nn.Module):
    """Embeddings of the crops, averaged over each sample's, then a head.

    A pair's features are [e_ref, e_cmp, e_ref − e_cmp] (paper, Fig. 5). Averaging comes before the head (paper, Fig. 8); of a
    single crop it changes nothing.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, pair: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.pair = encoder, head, pair

    def forward(self, reference: Tensor, compressed: Tensor) -> Tensor:
        """[B, N, 3, H, W] twice to [B]."""
        samples, crops = compressed.shape[:2]
        after = self.encoder(compressed.flatten(0, 1))  # [B N, D]
        if self.pair:
            before = self.encoder(reference.flatten(0, 1))
            after = torch.cat([before, after, before - after], dim=1)  # [B N, 3 D]
        averaged = after.reshape(samples, crops, -1).mean(dim=1)
        score: Tensor = self.head(averaged).squeeze(1)
        return score


def build(config: LearnedConfig) -> CropMetric:
    """The network of a configuration, with fresh weights."""
    if config.network == "mobilenet_pair":
        encoder, length = mobilenet(config.width)
        head = nn.Sequential(nn.Linear(3 * length, config.hidden), nn.Hardswish(), nn.Linear(config.hidden, 1))
        return CropMetric(encoder, head, pair=True)
    if config.network == "resnet_subset":
        encoder, length = resnet(config.width)
        return CropMetric(encoder, nn.Linear(3 * length, 1), pair=True)
    encoder, length = grey_cnn(config.width)
    head = nn.Sequential(nn.Linear(length, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))
    return CropMetric(encoder, head, pair=False)


def _channels(count: int, width: float) -> int:
    """``count`` scaled, a multiple of 8 and at least that."""
    return max(8, int(count * width + 4) // 8 * 8)


def _convolution(
    into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, activation: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    layers = [nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


# -- MobileNetV3 -------------------------------------------------------------------------------------------------------


class _Squeeze(nn.Module):
    """Squeeze and excite: each channel is weighted by what all channels are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _channels(channels, 0.25)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        weighed: Tensor = features * self.weigh(features)
        return weighed


class _Inverted(nn.Module):
    """Inverted residual: expand, filter each channel by itself, weigh, project."""

    def __init__(
        self, into: int, out: int, expanded: int, kernel: int, stride: int, *, squeeze: bool, swish: bool
    ) -> None:
        super().__init__()
        activation: type[nn.Module] = nn.Hardswish if swish else nn.ReLU
        self.layers = nn.Sequential(
            *([_convolution(into, expanded, 1, activation=activation)] if expanded != into else []),
            _convolution(expanded, expanded, kernel, stride, expanded, activation),
            *([_Squeeze(expanded)] if squeeze else []),
            _convolution(expanded, out, 1, activation=None),
        )
        self.residual = stride == 1 and into == out

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return features + found if self.residual else found


def mobilenet(width: float) -> tuple[nn.Module, int]:
    """MobileNetV3-small without its classifier, [B, 3, H, W] to [B, D], and D (576 at width 1)."""
    channels = _channels(_STEM, width)
    layers: list[nn.Module] = [_convolution(3, channels, 3, 2, activation=nn.Hardswish)]
    for kernel, expanded, out, squeeze, swish, stride in _BLOCKS:
        wide, following = _channels(expanded, width), _channels(out, width)
        layers.append(_Inverted(channels, following, wide, kernel, stride, squeeze=squeeze, swish=swish))
        channels = following
    length = _channels(_LAST, width)
    layers += [_convolution(channels, length, 1, activation=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers), length


# -- ResNet-18 ---------------------------------------------------------------------------------------------------------


class _Basic(nn.Module):
    """Two convolutions of 3 × 3 around a shortcut."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(into, out, 3, stride), _convolution(out, out, 3, activation=None))
        plain = stride == 1 and into == out
        self.shortcut = nn.Identity() if plain else _convolution(into, out, 1, stride, activation=None)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.layers(features) + self.shortcut(features))


def resnet(width: float) -> tuple[nn.Module, int]:
    """ResNet-18 without its classifier, [B, 3, H, W] to [B, D], and D (512 at width 1)."""
    channels = _channels(_STAGES[0], width)
    layers: list[nn.Module] = [_convolution(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(_STAGES):
        out = _channels(count, width)
        layers += [_Basic(channels, out, 2 if stage else 1), _Basic(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


# -- plates ------------------------------------------------------------------------------------------------------------


class _Grey(nn.Module):
    """RGB to luma."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(_LUMA).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 1, H, W]."""
        return (picture * self.weights).sum(dim=1, keepdim=True)


def grey_cnn(width: float) -> tuple[nn.Module, int]:
    """Convolutions of 3 × 3 of stride 2 on the grey crop, [B, 3, H, W] to [B, D], and D (128 at width 1)."""
    layers: list[nn.Module] = [_Grey()]
    channels = 1
    for count in _GREY:
        out = _channels(count, width)
        layers += [_convolution(channels, out, 3, 2), _convolution(out, out, 3)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels
