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
)
