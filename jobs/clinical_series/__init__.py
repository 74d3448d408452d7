"""Risk from irregular clinical series: multi-scale value-density attention and a medical graph (MVMformer)."""

from sensorium.platform.systems import System

__all__ = ["system"]

_METHOD = "sensorium.jobs.clinical_series.method:method"

system = System(
    name="clinical_series",
    title="MVMformer",
    modality="series",
    needs="irregular multivariate series with an outcome",
    claim="each unit adds; robust when variables are missing",
    paper=11,
    operations={
        "fit": _METHOD,
        "evaluate": _METHOD,
        "predict": _METHOD,
        "reproduce": "sensorium.jobs.clinical_series.reproduction:reproduce",
    },
    explanation=(
        "In goes what was measured of a patient, at whatever times it was measured, and a few facts such as the age. No gap "
        "is filled: attention within the series of each variable looks at segments of several lengths and at how dense the "
        "observations are, then a graph joins variables to organs and organs to one another. Out comes the probability of "
        "the outcome, such as death in hospital. After paper 11 (MVMformer). For research: this is not a medical device."
    ),
)
