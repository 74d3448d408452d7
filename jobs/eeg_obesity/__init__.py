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
    explanation=(
        "In goes a recording of EEG from 19 named electrodes. It is filtered, brought to 128 Hz and cut into epochs of ten "
        "seconds. The encoder of a variational autoencoder, which has learnt from signals without their classes, turns each "
        "epoch into features; a one-dimensional convolutional network gives it a probability for each class, and the epochs "
        "vote. Out come the class and the share of the epochs that agree. After paper 12 (Yue et al., ICPR 2024); its "
        "recordings are private, so what the classes mean depends on the data that a model was fitted on."
    ),
)
