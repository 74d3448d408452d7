"""Machine-vision-aware quality metrics: images × codecs × qualities, and what they cost a machine that looks at them."""

from __future__ import annotations

from sensorium.platform.systems import System

__all__ = ["system"]

_METHOD = "sensorium.jobs.machine_quality.learned.method:method"

system = System(
    name="machine_quality",
    title="machine-vision-aware quality metrics",
    modality="image",
    needs="images of any size, 8 or 16 bits, grey or RGB(A)",
    claim="a learned metric predicts the loss of detection and recognition far better than any classical one",
    paper=18,
    operations={
        "sweep": "sensorium.jobs.machine_quality.cli:sweep",
        "fit": _METHOD,
        "evaluate": _METHOD,
        "predict": _METHOD,
        "reproduce": "sensorium.jobs.machine_quality.learned.reproduction:reproduce",
    },
)
