"""Live use: readings in one by one, a class and its confidence out.

A window differs from the one before it by one reading, and a convolution without padding computes for a reading the same
in every window that holds it. So the CNN keeps the last rows of each layer's input and computes one new row a layer: about a
tenth of the work of the whole window, with the same result up to rounding. The other networks take the window whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sensorium.jobs.training.method import Fitted
from sensorium.jobs.water_pollutants.data import standardisation
from sensorium.jobs.water_pollutants.network import WindowCNN
from sensorium.jobs.water_pollutants.signals import StreamingWindows
from sensorium.platform.errors import InvalidSetting

__all__ = ["LiveClassifier", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What the newest window shows.

    Attributes:
        predicted: the likeliest class.
        confidence: its probability.
        probabilities: of all classes, in the order of ``LiveClassifier.classes``.
    """

    predicted: str
    confidence: float
    probabilities: npt.NDArray[np.float32]


class LiveClassifier:
    """A fitted model on a stream of readings of one sensor.

    Attributes:
        classes: names, in the order of the probabilities.
        seen: readings so far.
    """

    def __init__(self, fitted: Fitted) -> None:
        config, found = fitted.config, fitted.preprocessing
        if config.layout != "recording":
            raise InvalidSetting(f"live use needs a model of recordings; this one's layout is {config.layout!r}.")
        self.classes: list[str] = list(found["classes"])
        self._stream = StreamingWindows(
            len(found["mean"]),
            config.period,
            width=config.width,
            skip=config.skip,
            standardisation=standardisation(found),
        )
        network: Any = fitted.modules["network"]
        self._device = fitted.device
        self._rows = _SlidingCNN(network) if isinstance(network, WindowCNN) and network.slides else None
        self._network = network

    @property
    def seen(self) -> int:
        """Readings so far."""
        return self._stream.seen

    def push(self, reading: npt.ArrayLike) -> Seen | None:
        """Take one reading [F]; None until the first window is full.

        Raises:
            InvalidSample: another length, or not finite; the stream goes on without it.
        """
        with torch.inference_mode():
            logits = self._logits(reading)
            if logits is None:
                return None
            probabilities = logits.float().softmax(dim=0).cpu().numpy()
        best = int(probabilities.argmax())
        return Seen(self.classes[best], float(probabilities[best]), probabilities)

    def _logits(self, reading: npt.ArrayLike) -> Tensor | None:
        if self._rows is None:
            window = self._stream.push(reading)
            if window is None:
                return None
            logits: Tensor = self._network(torch.from_numpy(window)[None].to(self._device))[0]
            return logits
        row = self._stream.push_row(reading)
        if row is None:
            return None
        return self._rows.push(torch.from_numpy(row).to(self._device))


class _SlidingCNN:
    """The convolutions of a :class:`.WindowCNN`, one new row at a time.

    Each layer keeps the last two rows of its input; with the new one they are what a kernel of three rows needs.
    """

    def __init__(self, network: WindowCNN) -> None:
        self._layers: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        modules = list(network.convolutions)
        for convolution, norm in zip(
            (module for module in modules if isinstance(module, nn.Conv2d)),
            (module for module in modules if isinstance(module, nn.BatchNorm2d)),
            strict=True,
        ):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            matrix = convolution.weight.flatten(1).contiguous()  # [out, in · 3 · 3]
            self._layers.append((matrix, convolution.bias, scale, shift))
        self._held: list[list[Tensor]] = [[] for _ in self._layers]
        first = network.dense[1]
        depth = self._layers[-1][0].shape[0]
        self._kept = network.width - 2 * len(self._layers)  # rows of the last layer in a window
        weight = first.weight.view(first.out_features, depth, self._kept, -1)  # [128, C, 24, F - 8]
        # what each of the window's last rows adds to the first dense layer, for one product a row
        self._first = weight.permute(2, 0, 1, 3).reshape(self._kept * first.out_features, -1).contiguous()
        self._bias, self._outputs = first.bias, first.out_features
        self._sums = torch.zeros(self._kept, first.out_features, device=first.weight.device)
        self._rest = network.dense[2:]
        self._count = 0

    def push(self, row: Tensor) -> Tensor | None:
        """Logits [K] of the window that ends with ``row`` [F]; None while there is none yet."""
        value = row[None]  # [C, F]
        for (weight, bias, scale, shift), held in zip(self._layers, self._held, strict=True):
            held.append(value)
            if len(held) < 3:
                return None
            stack = torch.stack(held, dim=1)  # [C, 3, F]
            held.pop(0)
            patches = stack.unfold(2, 3, 1).permute(2, 0, 1, 3).flatten(1)  # [F - 2, C · 3 · 3]
            # a product of matrices: for a handful of positions a convolution would spend its time on rearranging weights
            value = (nn.functional.linear(patches, weight, bias).relu_() * scale + shift).T  # [C', F - 2]
        # the new row is the last of this window, the last but one of the next, and so on: add its part to each
        parts = (self._first @ value.reshape(-1)).view(self._kept, self._outputs)
        self._sums = torch.cat([self._sums[1:], torch.zeros_like(self._sums[:1])])
        self._sums += parts.flip(0)
        self._count += 1
        if self._count < self._kept:
            return None
        logits: Tensor = self._rest((self._sums[0] + self._bias)[None])[0]
        return logits
