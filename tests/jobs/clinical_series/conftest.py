"""Random ragged samples for the tests of clinical_series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Samples = list[dict[str, Any]]


@pytest.fixture
def make_samples() -> Callable[..., Samples]:
    """Samples over 48 h, minute by minute: with ties in time, variables without and with a single observation."""

    def make(count: int = 4, variables: int = 6, most: int = 40, seed: int = 0) -> Samples:
        rng = np.random.default_rng(seed)
        samples: Samples = []
        for index in range(count):
            size = int(rng.integers(1, most)) if index else most
            visits = np.sort(rng.integers(0, 48 * 60, max(1, size // 2))) / 60
            times = np.sort(rng.choice(visits, size))  # several at one time, even of one variable
            # the last variable never occurs, the one before once in the first sample
            variable = rng.integers(0, variables - 2, size)
            if index == 0:
                variable[size // 3] = variables - 2
            values = rng.normal(size=size) * 3
            samples.append({"id": str(index), "times": times, "variables": variable.astype(np.int32), "values": values})
        return samples

    return make
