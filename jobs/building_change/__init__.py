"""Changes of buildings between two aerial or satellite pictures: a CNN and a Gabor encoder side by side."""

from sensorium.platform.systems import System

__all__ = ["system"]

_METHOD = "sensorium.jobs.building_change.method:method"

system = System(
    name="building_change",
    title="AYANet",
    modality="image_pair",
    needs="registered pairs before and after, any number of bands, with a map of what changed",
    claim="Gabor and convolutional encoders together beat either alone",
    paper=9,
    operations={
        "fit": _METHOD,
        "evaluate": _METHOD,
        "predict": _METHOD,
        "reproduce": "sensorium.jobs.building_change.reproduction:reproduce",
        "protocol": "sensorium.jobs.building_change.protocol:run",
    },
    explanation=(
        "In go two registered pictures of one place, of any size and with any bands. Two encoders with the same weights for "
        "both dates look at them: the first stages of an EfficientNet, and a small one whose filters are shaped by Gabor "
        "waves, which answer to the regular texture of roofs. A module at each of four resolutions says how the two dates "
        "differ, a decoder puts these together, and out comes the probability of change of every pixel. Large scenes are "
        "cut into overlapping tiles and put together again. After paper 9."
    ),
)
