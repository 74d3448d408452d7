"""The steps of the main job: fill the lake, sweep the photographs, draw what is there."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.catalog.preview import contact_sheet
from sensorium.jobs.demo import photographs, simulate
from sensorium.jobs.machine_quality.cli import save_figure, sweep_on_ray
from sensorium.jobs.machine_quality.config import SweepConfig

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.machine_quality.sweep import SweepReport
    from sensorium.jobs.training.fit import FitReport
    from sensorium.platform.settings import Settings

__all__ = ["DATASETS", "FITS", "SWEEP", "DemoDataset", "build_lake", "draw_sheets", "fit_small", "sweep_photographs"]

_SIMULATED = "simulated, by sensorium.jobs.demo.simulate"


@dataclass(frozen=True)
class DemoDataset:
    """A data set of the demo.

    Attributes:
        make: writes its files into a folder.
        format: importer to read them.
        description, licence: for people.
        options: of the importer.
    """

    make: Callable[[Path], Path]
    format: str
    description: str
    licence: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether its samples are made up."""
        return _SIMULATED in self.description


DATASETS = {
    "photographs": DemoDataset(
        photographs.collect,
        "image_folder",
        "photographs that ship inside scikit-image and scikit-learn",
        photographs.LICENCE,
    ),
    "phantoms": DemoDataset(
        simulate.phantom_files,
        "nifti",
        f"chest CT phantoms with lung masks; {_SIMULATED}",
        "Apache-2.0",
        {"unit": "HU"},
    ),
    "sounds": DemoDataset(
        simulate.sound_files, "audio_files", f"chirps, chords, noise and pulses; {_SIMULATED}", "Apache-2.0"
    ),
    "vital_signs": DemoDataset(
        simulate.vital_sign_files, "series_table", f"irregular vital signs with an outcome; {_SIMULATED}", "Apache-2.0"
    ),
    "recordings": DemoDataset(
        simulate.monitor_files, "series_table", f"four-channel recordings at 128 Hz; {_SIMULATED}", "Apache-2.0"
    ),
}

SWEEP = "photographs_rate_distortion"
#: on each codec's own scale, worst first: from about 26 dB of PSNR to 38
_QUALITIES = {
    "jpeg": (10, 25, 50, 80, 95),
    "webp": (0, 15, 50, 80, 95),
    "jpeg_xl": (10, 35, 60, 80, 92),
    "x264": (44, 38, 32, 26, 20),
    "x265": (44, 38, 32, 26, 20),
    "avif": (57, 45, 34, 23, 12),
}
#: in colour, under half a megapixel, and only one of the stereo pair: the slowest codecs take half a second a
#: megapixel
_SWEPT = "subject NOT LIKE '%grey%' AND id NOT IN ('hubble_deep_field', 'motorcycle_right', 'retina')"


def build_lake(catalog: Catalog) -> dict[str, tuple[int, int, float]]:
    """Ingest the demo's data sets; per data set: samples added, samples there already, seconds."""
    done = {}
    for name, dataset in DATASETS.items():
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="sensorium-demo-") as folder:
            files = dataset.make(Path(folder) / name)
            report = catalog.ingest(
                files,
                name,
                dataset.format,
                options=dataset.options,
                description=dataset.description,
                licence=dataset.licence,
                strict=True,
            )
        done[name] = (report.added, report.skipped, time.monotonic() - started)
    return done


def sweep_config() -> SweepConfig:
    """The demo's sweep: eight photographs through six codecs at five qualities each."""
    return SweepConfig(
        data="photographs",
        into=SWEEP,
        qualities=_QUALITIES,
        metrics=("psnr", "psnr_y", "ssim"),
        where=_SWEPT,
    )


def sweep_photographs(catalog: Catalog, settings: Settings) -> tuple[SweepReport, str]:
    """Run the sweep and draw its figure; what it did, and where the figure is."""
    from sensorium.jobs.machine_quality.sweep import sweep_rows

    config = sweep_config()
    report = sweep_on_ray(catalog, config, settings)
    return report, save_figure(catalog, sweep_rows(catalog, config), report.into)


@dataclass(frozen=True)
class DemoFit:
    """A small fit of the demo, on simulated data.

    Attributes:
        system: that is fitted.
        data: name of its data set.
        seeds: so many times the system's own made-up samples.
        settings: that make it small.
    """

    system: str
    data: str
    seeds: int
    settings: tuple[str, ...]


FITS = (
    DemoFit(
        "water_pollutants",
        "water_simulated",
        1,
        ("network=lstm", "optimiser=adam", "lr=0.005", "stride=8", "epochs=6", "folds=4", "validation=0.34"),
    ),
    DemoFit(
        "eeg_obesity",
        "eeg_simulated",
        2,
        ("vae_fit.epochs=4", "fit.epochs=8", "split.folds=4", "split.validation=0.34"),
    ),
)


def fit_small(catalog: Catalog, settings: Settings, chosen: DemoFit) -> FitReport | None:
    """Fit one of :data:`FITS` in this process; None where its model is there already."""
    from sensorium.jobs.training.configuration import overridden
    from sensorium.jobs.training.fit import FitRequest, fit
    from sensorium.jobs.training.method import method_of

    method = method_of(chosen.system)
    config = overridden(method.config(), chosen.settings)
    if chosen.data not in catalog:
        made = [method.example(config, seed) for seed in range(chosen.seeds)]
        dataset = catalog.create(
            chosen.data,
            modality=method.modality(config),
            description=f"made-up samples of {chosen.system}; simulated, by the system itself",
            licence="Apache-2.0",
            attributes=made[0][1],
        )
        group = config.split.group
        samples = (
            {**sample, "id": f"{seed}-{sample['id']}", group: _apart(sample[group], seed), "simulated": True}
            for seed, (own, _) in enumerate(made)
            for sample in own
        )
        dataset.append(samples, key="made-up")
    if chosen.system in set(catalog.models()["name"]):
        return None
    return fit(catalog, FitRequest(chosen.system, chosen.data, config), settings)


def _apart(group: object, seed: int) -> object:
    """Groups of another seed are other groups."""
    return group + 100 * seed if isinstance(group, int) else f"{seed}-{group}"


def draw_sheets(catalog: Catalog) -> list[str]:
    """Draw a contact sheet of every data set into the lake; where they are."""
    places = []
    with tempfile.TemporaryDirectory(prefix="sensorium-demo-") as folder:
        for name in DATASETS:
            picture = contact_sheet(catalog[name].select(), Path(folder) / f"{name}.png")
            catalog.storage.write(picture.read_bytes(), "reports", picture.name)
            places.append(catalog.storage.at_path("reports", picture.name))
    return places
