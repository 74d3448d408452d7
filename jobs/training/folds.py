"""Parting samples into training, validation and test by groups, so that no subject is on two sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from sensorium.jobs.training.options import SplitOptions
from sensorium.platform.errors import DataLeak, InvalidSample, InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Split", "k_folds", "refuse_leaks", "single", "split_frame"]

_PARTS = ("train", "validation", "test")
#: what published data sets call their parts
_GIVEN = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
          "test": "test"}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Ids of the samples of each part."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def frame(self) -> pl.DataFrame:
        """``id`` and ``part``."""
        rows = [(identifier, part) for part in _PARTS for identifier in getattr(self, part)]
        return pl.DataFrame(rows, schema={"id": pl.String, "part": pl.String}, orient="row")

    @classmethod
    def read(cls, frame: pl.DataFrame) -> Split:
        """What :meth:`frame` gave."""
        parts = {part: tuple(frame.filter(pl.col("part") == part)["id"].to_list()) for part in _PARTS}
        return cls(**parts)


def split_frame(rows: pl.DataFrame, options: SplitOptions) -> pl.DataFrame:
    """The columns that a split looks at: ``id``, ``group`` and ``stratum``.

    Raises:
        InvalidSample: a sample has no group, or no value to stratify by.
    """
    group = pl.col(options.group).cast(pl.String).alias("group")
    stratum = pl.col(options.stratify).cast(pl.String) if options.stratify else pl.lit("")
    frame = rows.select("id", group, stratum.alias("stratum"))
    for column, field in (("group", options.group), ("stratum", options.stratify)):
        missing = frame.filter(pl.col(column).is_null())
        if missing.height:
            raise InvalidSample(
                f"sample {missing['id'][0]!r} has no {field!r}{_more(missing.height)}, by which the data is parted. "
                f'Give it one, or leave such samples out with --where "{field} IS NOT NULL".'
            )
    return frame


def single(rows: pl.DataFrame, options: SplitOptions) -> Split:
    """The parts of a single fit: those that the field ``options.part`` gives, or else the first of the folds.

    Raises:
        InvalidSample: a sample has another part, or none.
        InvalidSetting: no sample is for training.
        DataLeak: a group is in two parts.
    """
    frame = split_frame(rows, options)
    if not options.part:
        return k_folds(frame, options)[0]
    given = rows[options.part].cast(pl.String).str.to_lowercase().replace_strict(_GIVEN, default=None)
    unknown = rows.filter(given.is_null())
    if unknown.height:
        raise InvalidSample(
            f"sample {unknown['id'][0]!r}: {options.part} is {unknown[options.part][0]!r}{_more(unknown.height)}; train, "
            "validation or test is needed. Mend it, or leave such samples out with --where."
        )
    split = Split(*(tuple(frame["id"].filter(given == part).to_list()) for part in _PARTS))
    if not split.train:
        raise InvalidSetting(f"no sample has {options.part} 'train'. Choose another field for split.part, or none.")
    refuse_leaks(frame, split)
    return split


def k_folds(frame: pl.DataFrame, options: SplitOptions) -> list[Split]:
    """Cut samples into ``options.folds`` folds by group; each fold is the test part once.

    Groups are dealt out so that the shares of the strata are alike where there are strata. Of each training part, a share of
    the groups is kept for validation.

    Args:
        frame: of :func:`split_frame`.
        options: how many folds, and the share for validation.

    Raises:
        InvalidSetting: fewer groups than folds.
    """
    everything = np.arange(frame.height)
    splits = []
    for rest, test in _dealt(frame, everything, options.folds, options.seed):
        validation = np.empty(0, np.int64)
        train = rest
        if options.validation:
            inner = max(2, round(1 / options.validation))
            train, validation = _dealt(frame, rest, inner, options.seed + 1)[0]
        ids = [tuple(frame["id"][np.sort(part)].to_list()) for part in (train, validation, test)]
        split = Split(*ids)
        refuse_leaks(frame, split)
        splits.append(split)
    return splits


def refuse_leaks(frame: pl.DataFrame, split: Split) -> None:
    """Make sure that no group is in two parts.

    Raises:
        DataLeak: one is.
    """
    joined = split.frame().join(frame.select("id", "group"), on="id", how="left")
    parts = joined.group_by("group").agg(pl.col("part").unique().sort())
    torn = parts.filter(pl.col("part").list.len() > 1).sort("group")
    if torn.height or joined["id"].is_duplicated().any():
        name = torn["group"][0] if torn.height else joined.filter(joined["id"].is_duplicated())["id"][0]
        where = ", ".join(torn["part"][0]) if torn.height else "the same split"
        raise DataLeak(
            f"{name!r} is in more than one part ({where}): figures on it would be of data that was learnt from. "
            "Part the data by the field that names the subject or measurement (split.group)."
        )


def _dealt(frame: pl.DataFrame, positions: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per fold: positions of the others, and of its own."""
    require("sklearn", "part data into folds")
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    part = frame[positions]
    groups, strata = part["group"].to_numpy(), part["stratum"].to_numpy()
    count = part["group"].n_unique()
    if count < folds:
        raise InvalidSetting(
            f"{count} groups cannot be cut into {folds} folds. Set split.folds to {count} or less, or bring more data."
        )
    if part["stratum"].n_unique() < 2:
        splitter = GroupKFold(folds, shuffle=True, random_state=seed)
        dealt = splitter.split(positions, strata, groups)
    elif count == part.height:  # each sample its own group: the plain way, which is linear
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        _require_members(part, folds)
        dealt = splitter.split(positions, strata)
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        _require_members(part, folds)
        dealt = splitter.split(positions, strata, groups)
    return [(positions[rest], positions[own]) for rest, own in dealt]


def _require_members(part: pl.DataFrame, folds: int) -> None:
    fewest = part.group_by("stratum").agg(pl.len().alias("count")).sort("count")
    if int(fewest["count"][0]) < folds:
        raise InvalidSetting(
            f"{fewest['stratum'][0]!r} has {fewest['count'][0]} samples, fewer than {folds} folds. "
            "Set split.folds lower, or split.stratify to nothing."
        )


def _more(count: int) -> str:
    return f", nor have {count - 1} more" if count > 1 else ""
