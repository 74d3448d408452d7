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
    explanation=(
        "In go the readings of ten impedance sensors in flowing water. The difference of each to its own exponential moving "
        "average (EMA-D) takes slow drift away; windows of 32 readings of it go through a small convolutional network, which "
        "gives each window a probability for every pollutant. Out comes the class whose mean over all windows is highest. "
        "After paper 13; its measurements are not public, so a model here has learnt from simulated water, or from data of "
        "your own."
    ),
)
