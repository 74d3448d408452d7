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
    explanation=(
        "In go a crop of a picture and the same crop after compression. A convolutional network looks at both and predicts "
        "how much worse a machine, one that detects, recognises or reads, does on the compressed one. It has learnt from "
        "sweeps that compressed many pictures and let the machine look at all of them. Out comes the loss that is to be "
        "expected. After paper 18, whose measure is made for machines rather than for eyes."
    ),
)
