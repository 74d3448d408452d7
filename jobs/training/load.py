"""What a fit uses of its machine, for the curves."""

from __future__ import annotations

import os
import resource
import time

import torch

__all__ = ["Load"]


class Load:
    """Measures from one reading to the next."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._step = time.monotonic(), _cpu_s(), -1

    def read(self, step: int, batch_size: int, device: torch.device) -> dict[str, float]:
        """Examples a second, cores busy in this process, its peak memory, and the accelerator's (MB)."""
        wall, cpu = time.monotonic(), _cpu_s()
        elapsed = max(1e-9, wall - self._wall)
        found = {
            "load/cores": (cpu - self._cpu) / elapsed,
            "load/peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if self._step >= 0:
            found["load/examples_per_s"] = (step - self._step) * batch_size / elapsed
        if device.type == "cuda":
            found["load/device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
        self._wall, self._cpu, self._step = wall, cpu, step
        return found


def _cpu_s() -> float:
    return sum(os.times()[:2])
