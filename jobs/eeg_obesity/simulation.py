"""Made-up EEG, for tests and first steps: people whose rhythm is alpha or theta by class. Not data about anyone."""

from __future__ import annotations

from typing import Any

import numpy as np

from sensorium.jobs.eeg_obesity.config import CHANNELS, EegConfig

__all__ = ["recordings"]

_SUBJECTS, _SECONDS = 8, 30.0
#: rhythm of each class, Hz, and the electrodes where it is strongest
_RHYTHMS = {"alpha": (10.0, ("O1", "O2", "P3", "P4", "Pz")), "theta": (6.0, ("Fz", "F3", "F4", "Cz"))}
#: µV: of the rhythm where it is strong and elsewhere, and of the background
_STRONG, _WEAK, _NOISE = 30.0, 8.0, 10.0


def recordings(config: EegConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Eight people, four of each class, a recording of 30 s each at the configuration's rate, and no attributes.

    Rhythm and background are independent from electrode to electrode, the phase is random.
    """
    random = np.random.default_rng(seed)
    time = np.arange(round(_SECONDS * config.rate)) / config.rate
    samples = []
    for index in range(_SUBJECTS):
        label = sorted(_RHYTHMS)[index % 2]
        frequency, places = _RHYTHMS[label]
        size = np.where(np.isin(CHANNELS, places), _STRONG, _WEAK) * random.uniform(0.7, 1.3)
        phases = random.uniform(0, 2 * np.pi, (len(CHANNELS), 1))
        drift = frequency * random.uniform(0.95, 1.05)
        wave = size[:, None] * np.sin(2 * np.pi * drift * time + phases)
        signal = wave + random.normal(0, _NOISE, (len(CHANNELS), len(time)))
        samples.append(
            {
                "id": f"person-{index:02}",
                config.readings: signal.astype(np.float32),
                "sampling_rate": config.rate,
                "channels": list(CHANNELS),
                config.target: label,
                "subject": f"person-{index:02}",
            }
        )
    return samples, {}
