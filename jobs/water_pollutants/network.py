"""Classifiers of windows: the CNN of the paper's Table 2, and the three that it is compared with.

Legend: B windows, W readings in a window (32), F features (10), K classes (8). All take [B, W, F], standardised differences,
float32, to logits [B, K]; the softmax of Table 2 belongs to the loss.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = ["NETWORKS", "RecurrentClassifier", "TransformerClassifier", "WindowCNN", "build"]

Padding = Literal["valid", "same"]

#: the CNN: filters of the four convolutions, side of their kernels, dropout, dense layers (Table 2)
_FILTERS, _KERNEL, _DROPOUT, _DENSE = (32, 64, 128, 256), 3, 0.5, (128, 64)
#: state of the LSTM and the simple RNN (assumed; the paper gives none)
_STATE = 64
#: the transformer's width, heads, layers, inner width and dropout (assumed; the paper gives none)
_WIDTH, _HEADS, _LAYERS, _INNER, _ATTENTION_DROPOUT = 64, 4, 2, 128, 0.1


class WindowCNN(nn.Module):
    """Table 2: a window as a picture of W × F with one channel.

    Convolutions of 3 × 3 with 32, 64, 128 and 256 filters, each with ReLU and then batch normalisation, dropout of 0.5 behind
    the last three, dense layers of 128 and 64. Max pooling of 1 × 1, which the table has too, changes nothing and is left out.

    The table gives no padding. ``valid``, what its framework does unless told otherwise, leaves 24 × 2 positions and has 2.0
    million parameters; ``same`` keeps 32 × 10, has 10.9 million, and takes five times as long. Windows of fewer than 9
    readings or features need ``same``.
    """

    def __init__(self, width: int, features: int, classes: int, padding: Padding = "valid") -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise InvalidSetting(f"padding must be valid or same; got {padding!r}.")
        lost = (_KERNEL - 1) * len(_FILTERS) if padding == "valid" else 0
        if min(width, features) <= lost:
            raise InvalidSetting(
                f"a window of {width} x {features} leaves nothing after {len(_FILTERS)} convolutions; "
                f"take more than {lost} readings and features, or padding=same."
            )
        layers: list[nn.Module] = []
        before = 1
        for index, filters in enumerate(_FILTERS):
            layers += [
                nn.Conv2d(before, filters, _KERNEL, padding=padding),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(filters),
            ]
            if index > 0:
                layers.append(nn.Dropout(_DROPOUT))
            before = filters
        self.convolutions = nn.Sequential(*layers)
        flat = _FILTERS[-1] * (width - lost) * (features - lost)
        self.dense = nn.Sequential(
            *(nn.Flatten(), nn.Linear(flat, _DENSE[0]), nn.ReLU(), nn.Linear(_DENSE[0], _DENSE[1]), nn.ReLU()),
            nn.Linear(_DENSE[1], classes),
        )

        self.width, self.slides = width, padding == "valid"

    def forward(self, windows: Tensor) -> Tensor:
        return self.dense(self.convolutions(windows.unsqueeze(1)))  # [B, 1, W, F]

    def over_recording(self, rows: Tensor) -> Tensor:
        """Logits [n, K] of all n = T - W + 1 windows of a recording's rows [T, F], in evaluation mode only.

        Without padding, what a convolution computes at a reading is the same in every window that holds it: the
        convolutions run over the recording once, and the first dense layer slides over their output.
        """
        maps = self.convolutions(rows[None, None])[0]  # [C, T - 8, F - 8]
        depth, lost = maps.shape[0], len(_FILTERS) * (_KERNEL - 1)
        first = self.dense[1]
        kernel = first.weight.view(first.out_features, depth, self.width - lost, -1)  # [128, C, W - 8, F - 8]
        slid = nn.functional.conv2d(maps[None], kernel, first.bias)[0, :, :, 0].T  # [n, 128]
        return self.dense[2:](slid)


class RecurrentClassifier(nn.Module):
    """An LSTM or a simple (Elman, tanh) RNN with one layer of 64 units; its state after the last reading is classified."""

    def __init__(self, kind: Literal["lstm", "rnn"], features: int, classes: int) -> None:
        super().__init__()
        self.recurrence = (nn.LSTM if kind == "lstm" else nn.RNN)(features, _STATE, batch_first=True)
        self.dense = nn.Linear(_STATE, classes)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.recurrence(windows)  # [B, W, 64]
        return self.dense(states[:, -1])


class TransformerClassifier(nn.Module):
    """Two encoder layers of width 64 with four heads over the readings, with sinusoidal positions; the mean is classified.

    A. Vaswani et al., "Attention is all you need", NIPS 2017: section 3.5 for the positions.
    """

    positions: Tensor

    def __init__(self, width: int, features: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, _WIDTH)
        angles = torch.arange(width)[:, None] * torch.exp(torch.arange(0, _WIDTH, 2) * (-math.log(1e4) / _WIDTH))
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1), persistent=False)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, _INNER, _ATTENTION_DROPOUT, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.dense = nn.Linear(_WIDTH, classes)

    def forward(self, windows: Tensor) -> Tensor:
        tokens = self.embedding(windows) + self.positions  # [B, W, 64]
        return self.dense(self.encoder(tokens).mean(1))


#: name -> title, in the order of the paper's Table 3, worst first
NETWORKS: dict[str, str] = {
    "transformer": "Transformer",
    "rnn": "simple RNN",
    "lstm": "LSTM",
    "cnn": "CNN (Table 2)",
}


def build(name: str, width: int, features: int, classes: int, *, padding: Padding = "valid") -> nn.Module:
    """The network ``name`` of :data:`NETWORKS` for windows [B, width, features]; ``padding`` is the CNN's.

    Raises:
        InvalidSetting: an unknown name, or a window too small for the CNN.
    """
    if name == "cnn":
        return WindowCNN(width, features, classes, padding)
    if name == "transformer":
        return TransformerClassifier(width, features, classes)
    if name == "lstm":
        return RecurrentClassifier("lstm", features, classes)
    if name == "rnn":
        return RecurrentClassifier("rnn", features, classes)
    raise InvalidSetting(f"unknown network {name!r}. {close_matches(name, NETWORKS)}".rstrip())
