"""Classifying water pollutants from windows of impedance readings: EMA-D and a CNN."""

from sensorium.platform.systems import System

__all__ = ["system"]

_METHOD = "sensorium.jobs.water_pollutants.method:method"

system = System(
    name="water_pollutants",
    title="EMA-D windows + CNN",
    modality="series",
    needs="10-channel sensor series with the pollutant, several measurements of each",
    claim="the CNN is the best and the steadiest of four networks",
    paper=13,
    operations={
        "fit": _METHOD,
        "evaluate": _METHOD,
        "predict": _METHOD,
        "reproduce": "sensorium.jobs.water_pollutants.reproduction:reproduce",
    },
)
