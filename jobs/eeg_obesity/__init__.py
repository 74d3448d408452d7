"""Which of two groups a person belongs to, from 19 channels of EEG: VAE features and a 1-D CNN."""

from sensorium.platform.systems import System

__all__ = ["system"]

_METHOD = "sensorium.jobs.eeg_obesity.method:method"

system = System(
    name="eeg_obesity",
    title="VAE + 1-D CNN",
    modality="series",
    needs="EEG of the 19 electrodes of the 10–20 system, named, with rate, subject and a class per recording",
    claim="VAE features beat raw signals and have lower dichotomy impurity than EEGNet's",
    paper=12,
    operations={
        "fit": _METHOD,
        "evaluate": _METHOD,
        "predict": _METHOD,
        "reproduce": "sensorium.jobs.eeg_obesity.reproduction:reproduce",
    },
)
