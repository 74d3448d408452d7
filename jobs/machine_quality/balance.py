"""Qualities at which codecs are equally good: so that a comparison, and a learned metric, does not learn the codec instead.

The paper chooses twenty qualities a codec such that the distributions of PSNR over its images agree (Fig. 1). Here a pilot of
a few pictures is coded by every codec; for each level of a common ladder of PSNR, each codec's quality is found by bisection
on the pilot's mean, which falls as the quality falls.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import ray

from sensorium.catalog import fragments
from sensorium.jobs import codecs, image_metrics
from sensorium.jobs.codecs import Codec, Picture
from sensorium.jobs.machine_quality.material import Extent, to_rgb8
from sensorium.jobs.machine_quality.plan import Subjects
from sensorium.jobs.machine_quality.report.spread import distance
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from sensorium.platform.storage import Storage

__all__ = ["PILOT", "Balanced", "balanced", "draw", "matched"]

#: pictures of the pilot
PILOT = 8
#: a codec that misses a level of the ladder by more than this is told about, in dB
_FAR_DB = 1.0


@dataclass(frozen=True)
class Balanced:
    """A grid of qualities that gives codecs the same distribution of a metric.

    Attributes:
        metric: name of it.
        qualities: per codec, one for each level, from worst to best, without repetitions.
        levels: the ladder.
        reached: per codec, the pilot's mean at each of its qualities.
        values: codec, quality, image, value: of the pilot at the chosen qualities.
    """

    metric: str
    qualities: dict[str, tuple[int, ...]]
    levels: tuple[float, ...]
    reached: dict[str, tuple[float, ...]]
    values: pl.DataFrame

    @property
    def imbalance(self) -> float:
        """The greatest distance between the distributions of two codecs (Kolmogorov and Smirnov's statistic, 0 to 1)."""
        parts = [part["value"].to_numpy() for _, part in self.values.group_by("codec")]
        return max((distance(one, other) for one in parts for other in parts), default=0.0)

    def misses(self) -> list[str]:
        """Sentences about levels that a codec cannot reach."""
        found = []
        for codec, reached in self.reached.items():
            low, high = min(reached), max(reached)
            if low > self.levels[0] + _FAR_DB or high < self.levels[-1] - _FAR_DB:
                found.append(
                    f"{codec} reaches {low:.1f} to {high:.1f} of the {self.levels[0]:.1f} to {self.levels[-1]:.1f} asked for"
                )
        return found


def balanced(
    storage: Storage, subjects: Subjects, names: Sequence[str], count: int, metric: str = "psnr", pilot: int = PILOT
) -> Balanced:
    """Find qualities for ``names`` on a pilot of the subjects, codecs side by side as Ray tasks.

    Args:
        storage: of the data set.
        subjects: stills.
        names: of the codecs.
        count: levels of the ladder; the paper has 20.
        metric: whose distributions shall agree; one for which higher is better.
        pilot: so many pictures, evenly chosen.

    Raises:
        InvalidSetting: the data set holds no stills, or the metric cannot be matched.
    """
    chosen = image_metrics.get(metric)
    if chosen.columns or not chosen.higher_is_better or not chosen.needs_reference:
        raise InvalidSetting(f"--match {metric}: only a metric of likeness for which higher is better can be matched.")
    if subjects.layout != "still":
        raise InvalidSetting("--match looks at stills. Name the qualities of video and cubes.")
    rows = subjects.frame.sort("hash")
    places = np.unique(np.linspace(0, rows.height - 1, min(pilot, rows.height)).astype(int))
    items = [(row["image"], subjects.extent(row)) for row in rows[places.tolist()].iter_rows(named=True)]
    ends = ray.remote(num_cpus=1)(_ends)
    low, high = zip(*ray.get([ends.remote(storage, items, name, metric) for name in names]), strict=True)
    # the ladder that every codec can climb
    levels = tuple(float(level) for level in np.linspace(max(low), min(high), count))
    search = ray.remote(num_cpus=1)(_searched)
    found = ray.get([search.remote(storage, items, name, metric, levels) for name in names])
    qualities = {name: tuple(one) for name, one in zip(names, found, strict=True)}
    values = [
        {"codec": name, "quality": quality, "image": index, "value": value}
        for name, one in zip(names, found, strict=True)
        for quality, pilot_values in one.items()
        for index, value in enumerate(pilot_values)
    ]
    reached = {
        name: tuple(float(np.mean(value)) for value in one.values()) for name, one in zip(names, found, strict=True)
    }
    return Balanced(metric, qualities, levels, reached, pl.DataFrame(values))


def _pilot(storage: Storage, items: Sequence[tuple[fragments.Reference, Extent]]) -> list[Picture]:
    pictures = []
    for reference, extent in items:
        image = fragments.read(storage, reference)
        if extent.region is not None:
            top, left, height, width = extent.region
            image = image[top : top + height, left : left + width]
        pictures.append(Picture.of(to_rgb8(image)))
    return pictures


def _at(codec: Codec, pictures: Sequence[Picture], metric: str) -> Callable[[int], list[float]]:
    """A metric of the pilot by quality, each quality computed once."""
    found: dict[int, list[float]] = {}
    compute = image_metrics.get(metric).compute

    def values(quality: int) -> list[float]:
        if quality not in found:
            coded = [codec.decode(codec.encode(one, quality).data, one.size) for one in pictures]
            pairs = zip(pictures, coded, strict=True)
            found[quality] = [float(np.mean(compute(one.rgb, other))) for one, other in pairs]
        return found[quality]

    return values


def _ends(storage: Storage, items: Sequence[Any], name: str, metric: str) -> tuple[float, float]:
    """The metric at the codec's worst and almost best quality (the very best may be lossless)."""
    codec = codecs.get(name)
    at = _at(codec, _pilot(storage, items), metric)
    near = codec.best + (1 if codec.worst > codec.best else -1)
    return float(np.mean(at(codec.worst))), float(np.mean(at(near)))


def _searched(
    storage: Storage, items: Sequence[Any], name: str, metric: str, levels: Sequence[float]
) -> dict[int, list[float]]:
    """The codec's quality nearest to each level, and the pilot's values at it; from worst to best."""
    codec = codecs.get(name)
    at = _at(codec, _pilot(storage, items), metric)
    return {quality: at(quality) for quality in matched(codec, lambda value: float(np.mean(at(value))), levels)}


def matched(codec: Codec, mean: Callable[[int], float], levels: Sequence[float]) -> list[int]:
    """Per level the quality whose ``mean`` is nearest, by bisection; from worst to best, each once."""
    step = 1 if codec.best > codec.worst else -1
    span = abs(codec.best - codec.worst)
    chosen = []
    for level in levels:
        low, high = 0, span  # steps from the worst quality: mean(low) <= level <= mean(high), as far as it goes
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if mean(codec.worst + step * middle) <= level else (low, middle)
        ends = [codec.worst + step * place for place in (low, high)]
        chosen.append(min(ends, key=lambda quality: abs(mean(quality) - level)))
    return list(dict.fromkeys(chosen))


def draw(found: Balanced) -> bytes:
    """Histograms of the metric by codec (Fig. 1), and the pilot's mean at each quality, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(found.qualities)
    known = image_metrics.get(found.metric)
    label = f"{known.title}, {known.unit}" if known.unit else known.title
    figure = Figure(figsize=(10, 1.2 * len(names) + 1.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(names), 2)
    edges = np.linspace(found.values["value"].to_numpy().min(), found.values["value"].to_numpy().max(), 25)
    right = figure.add_subplot(grid[:, 1])
    for place, name in enumerate(names):
        panel = figure.add_subplot(grid[place, 0])
        panel.hist(found.values.filter(pl.col("codec") == name)["value"].to_list(), edges.tolist(), color=f"C{place}")
        panel.set_ylabel(name, rotation=0, ha="right")
        panel.set_yticks([])
        if place < len(names) - 1:
            panel.set_xticklabels([])
        right.plot(found.reached[name], "o-", color=f"C{place}", label=name)
    panel.set_xlabel(label)
    right.set_xlabel("quality, from worst to best")
    right.set_ylabel(f"mean of the pilot, {label}")
    right.grid(alpha=0.3)
    right.legend()
    figure.suptitle(f"distributions by codec; greatest distance {found.imbalance:.2f} (Kolmogorov and Smirnov)")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def name_of(qualities: Mapping[str, Sequence[int]]) -> str:
    """A short name for a grid, for its figure."""
    return hashlib.blake2b(repr(sorted(qualities.items())).encode(), digest_size=4).hexdigest()
