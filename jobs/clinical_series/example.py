"""Made-up records for a first try and for tests: not data to learn anything from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from sensorium.jobs.clinical_series.config import ClinicalConfig

__all__ = ["records"]

#: variable -> usual value, deviation, observations in 48 h, shift (in deviations) of those who die
_VARIABLES: Mapping[str, tuple[float, float, int, float]] = MappingProxyType(
    {
        "GCS": (13.0, 2.0, 6, -1.5),
        "HR": (85.0, 15.0, 16, 1.0),
        "MAP": (80.0, 12.0, 12, -0.5),
        "RespRate": (18.0, 4.0, 6, 0.5),
        "BUN": (20.0, 8.0, 3, 1.5),
        "Creatinine": (1.1, 0.4, 3, 1.0),
        "Platelets": (220.0, 70.0, 2, 0.0),
        "Temp": (37.0, 0.6, 6, 0.0),
        "Lactate": (1.8, 0.8, 2, 1.5),
    }
)
_HOURS = 48.0
#: records of each outcome
_EACH = 12


def records(config: ClinicalConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records of both outcomes with irregular times, some without some variables, and the attributes of their data set.

    Times are whole minutes; scalars are those that the configuration's ``statics`` name, of which the usual ones are there.
    """
    samples = []
    for index in range(2 * _EACH):
        random = np.random.default_rng([seed, index])
        outcome = index % 2
        samples.append(
            {
                "id": f"stay-{index:02}",
                **_observations(random, outcome),
                **_scalars(random, outcome, config),
                config.target: outcome,
            }
        )
    return samples, {"variable_names": list(_VARIABLES)}


def _observations(random: np.random.Generator, outcome: int) -> dict[str, Any]:
    times, variables, values = [], [], []
    for index, (usual, deviation, count, shift) in enumerate(_VARIABLES.values()):
        if index and random.random() < 0.2:
            continue
        size = 1 + int(random.poisson(count))
        times.append(random.integers(0, int(_HOURS * 60), size) / 60)
        variables.append(np.full(size, index, np.int32))
        values.append(usual + deviation * (shift * outcome + random.normal(size=size)))
    order = np.argsort(np.concatenate(times), kind="stable")
    return {
        "times": np.concatenate(times)[order],
        "variables": np.concatenate(variables)[order],
        "values": np.concatenate(values)[order].astype(np.float32),
    }


def _scalars(random: np.random.Generator, outcome: int, config: ClinicalConfig) -> dict[str, Any]:
    known = {
        "age": int(np.clip(random.normal(62 + 8 * outcome, 12), 18, 90)),
        "gender": int(random.integers(2)),
        "height_cm": float(np.round(random.normal(170, 10), 1)),
        "weight_kg": float(np.round(random.normal(80, 15), 1)),
        "icu_type": int(random.integers(1, 5)),
    }
    return {name: known.get(name, float(random.normal())) for name in config.static_fields()}
