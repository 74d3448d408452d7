"""Configuration of a sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensorium.jobs import codecs, image_metrics
from sensorium.platform.errors import InvalidSetting

__all__ = ["SweepConfig", "parse_frames", "parse_gops", "parse_qualities"]

#: below this, headers and borders decide
_SMALLEST_TILE = 64


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep runs over.

    Attributes:
        data: data set of images, NAME or NAME@VERSION.
        into: data set that the rows go into; made if it is not there.
        qualities: per codec, quality numbers on its own scale (the paper: 20 a codec).
        metrics: names of the metrics computed for every cell.
        where: SQL that chooses among the images; empty for all.
        field: the array field that is coded; empty for the first that a codec can take.
        tasks: of machines, ``NAME`` or ``NAME=ARGUMENT``, asked about every decoded picture.
        gops: for video and cubes, a key frame every so many frames (or bands), 1 for intra coding; empty for intra only.
        frames: the first frame or band and the one after the last; empty for all.
        tile: side in pixels of the tiles that pictures are cut into; 0 for whole pictures.
        block_seconds: CPU seconds of estimated work per block, above 0. A block is what is lost when a worker dies.
        cell_seconds: a cell that takes longer is ended with its worker.
        retry_errors: run cells again whose row is an error.
    """

    data: str
    into: str
    qualities: Mapping[str, tuple[int, ...]]
    metrics: tuple[str, ...]
    where: str = ""
    field: str = ""
    tasks: tuple[str, ...] = ()
    gops: tuple[int, ...] = ()
    frames: tuple[int, int] | None = None
    tile: int = 0
    block_seconds: float = 5.0
    cell_seconds: float = 600.0
    retry_errors: bool = False

    def __post_init__(self) -> None:
        if not self.qualities or not all(self.qualities.values()):
            raise InvalidSetting(
                f"a sweep needs at least one codec, and one quality of each; got {dict(self.qualities)}."
            )
        if not self.metrics:
            raise InvalidSetting("a sweep needs at least one metric.")
        for name in ("block_seconds", "cell_seconds"):
            if getattr(self, name) <= 0:
                raise InvalidSetting(f"{name} must be above 0; got {getattr(self, name)}.")
        if self.tile and self.tile < _SMALLEST_TILE:
            raise InvalidSetting(f"tiles must have {_SMALLEST_TILE} pixels a side or more; got {self.tile}.")
        if any(gop < 1 for gop in self.gops):
            raise InvalidSetting(f"a GOP has one frame or more; got {min(self.gops)}.")
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise InvalidSetting(f"frames must be FIRST:END with FIRST below END; got {self.frames}.")
        for name, values in self.qualities.items():
            codec = codecs.get(name)
            for quality in values:
                codec.check_quality(quality)
        for name in self.metrics:
            image_metrics.get(name)


def parse_qualities(text: str, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Quality grids from the command line.

    Args:
        text: ``auto:8``, eight per codec evenly spaced over its scale; ``10,50,90``, these for every codec; or
            ``jpeg=10,50,90;x264=40,30``, per codec.
        names: the codecs asked for.

    Raises:
        InvalidSetting: cannot be read, or leaves a codec without qualities.
    """
    if match := re.fullmatch(r"auto:(\d+)", text.strip()):
        count = int(match[1])
        if count < 1:
            raise InvalidSetting(f"--qualities auto:N needs N of 1 or more; got {text!r}.")
        return {name: _spaced(codecs.get(name), count) for name in names}
    if "=" not in text:
        common = _numbers(text, text)
        return dict.fromkeys(names, common)
    grids: dict[str, tuple[int, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, mark, values = part.partition("=")
        if not mark or name.strip() not in names:
            raise InvalidSetting(
                f"--qualities: {part!r} does not begin with one of the codecs ({', '.join(names)}) and =."
            )
        grids[name.strip()] = _numbers(values, text)
    missing = [name for name in names if name not in grids]
    if missing:
        raise InvalidSetting(f"--qualities {text!r} names none for {missing[0]}. Add ;{missing[0]}=…, or use auto:8.")
    return grids


def parse_gops(text: str) -> tuple[int, ...]:
    """GOPs out of ``1,16``; none out of an empty text.

    Raises:
        InvalidSetting: no numbers.
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise InvalidSetting(f"--gop {text!r} cannot be read. Write numbers of frames, such as 1,16.") from error


def parse_frames(text: str) -> tuple[int, int] | None:
    """The first frame and the one after the last out of ``FIRST:END``; None out of an empty text.

    Raises:
        InvalidSetting: it reads differently.
    """
    if not text.strip():
        return None
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
    if match is None:
        raise InvalidSetting(f"--frames {text!r} cannot be read. Write FIRST:END, such as 0:64.")
    return int(match[1]), int(match[2])


def _numbers(values: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(value) for value in values.split(",")))
    except ValueError as error:
        raise InvalidSetting(
            f"--qualities {text!r} cannot be read. Write auto:8, or 10,50,90, or jpeg=10,50,90;x264=40,30."
        ) from error


def _spaced(codec: codecs.Codec, count: int) -> tuple[int, ...]:
    """``count`` qualities from worst to best."""
    if count == 1:
        return (round((codec.worst + codec.best) / 2),)
    step = (codec.best - codec.worst) / (count - 1)
    return tuple(dict.fromkeys(round(codec.worst + step * index) for index in range(count)))
