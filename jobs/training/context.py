"""Where a worker stands among the others, and what they do together.

Alone, every collective is the identity, so that the same code runs in process and on many nodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Context", "alone"]

#: gradients are exchanged in flat buffers of about this size
_BUCKET_BYTES = 64 << 20
#: from this CUDA capability on, bfloat16 is computed by the tensor cores
_BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Context:
    """One worker of a fit.

    Attributes:
        rank, world_size: which worker of how many.
        device: that it computes on.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the workers; one that a worker does not have counts as zero."""
        if self.world_size == 1:
            return
        bucket: list[torch.Tensor] = []
        size = 0
        for parameter in parameters:
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if bucket and (size > _BUCKET_BYTES or bucket[0].dtype != parameter.grad.dtype):
                self._average(bucket)
                bucket, size = [], 0
            bucket.append(parameter.grad)
            size += parameter.grad.numel() * parameter.grad.element_size()
        if bucket:
            self._average(bucket)

    def _average(self, tensors: list[torch.Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.world_size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast_modules(self, modules: Mapping[str, torch.nn.Module], *, buffers_only: bool = False) -> None:
        """Give all workers the first one's weights and buffers (running statistics are its own between two calls)."""
        if self.world_size == 1:
            return
        for module in modules.values():
            tensors = list(module.buffers())
            if not buffers_only:
                tensors += [parameter.data for parameter in module.parameters()]
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def from_first(self, value: Any) -> Any:
        """The first worker's ``value``, a picklable object, for all."""
        if self.world_size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """Every worker's ``value``, a picklable object, by rank."""
        if self.world_size == 1:
            return [value]
        box: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(box, value)
        return box

    def interleaved(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of all workers, whose examples were dealt out in turn, in the examples' own order."""
        parts = self.gathered(dict(outputs))
        if len(parts) == 1:
            return dict(outputs)
        joined = {}
        for name in parts[0]:
            columns = [part[name] for part in parts]
            whole = np.empty((sum(len(column) for column in columns), *columns[0].shape[1:]), columns[0].dtype)
            for rank, column in enumerate(columns):
                whole[rank :: self.world_size] = column
            joined[name] = whole
        return joined

    def seed(self, number: int) -> None:
        """Seed the noise of this worker's device; ``torch.manual_seed`` would note a stack trace for each accelerator."""
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def autocast(self, precision: str) -> Any:
        """The context of a forward pass in ``precision`` (``auto``: bfloat16 where the device gains by it)."""
        gains = self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= _BFLOAT16_CAPABILITY
        wanted = precision == "bfloat16" or (precision == "auto" and gains)
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def alone(device: str | torch.device | None = None) -> Context:
    """A worker by itself, on the accelerator of this process where it may see one."""
    if device is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = found or "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        deterministic()
    return Context(0, 1, chosen)


def deterministic() -> None:
    """Choose the kernels of an accelerator that give the same result every time, where there are any."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
