"""What every fit can be told, whatever the system; each system chooses its own defaults."""

from __future__ import annotations

from dataclasses import dataclass

from sensorium.platform.errors import InvalidSetting

__all__ = ["FitOptions", "SplitOptions"]

_SCHEDULES = ("constant", "linear", "cosine", "plateau")
_PRECISIONS = ("auto", "float32", "bfloat16")
_MODES = ("min", "max")


def _require(holds: bool, rule: str, got: object) -> None:
    if not holds:
        raise InvalidSetting(f"{rule}; got {got!r}.")


@dataclass(frozen=True)
class FitOptions:
    """How a fit runs.

    Attributes:
        epochs: passes over the training part at most.
        batch_size: examples a step, over all workers together.
        lr: learning rate at its highest.
        weight_decay: of the optimiser.
        schedule: of the learning rate: ``constant``; ``linear`` or ``cosine`` to 0 at the end; ``plateau``: times
            ``plateau_factor`` after ``plateau_patience`` epochs without improvement.
        warmup_steps: steps over which the learning rate rises from 0.
        plateau_factor, plateau_patience: see ``schedule``.
        clip_norm: gradients are scaled down to this norm; 0 leaves them.
        patience: epochs without improvement after which the fit stops; 0 never stops early.
        watch: what improvement means: a name among the validation figures.
        watch_mode: ``min`` or ``max`` of it is the best.
        validate_every: epochs between two validations (the last epoch is always validated).
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the device computes faster in it.
        seed: of weights, order and noise. With it, data, code and one worker a fit is determined.
        checkpoint_steps, checkpoint_minutes: whichever comes first; 0 switches one off. Every epoch's end is a checkpoint
            too, if ``checkpoint_epochs``.
        checkpoint_epochs: epochs between two checkpoints; 0 for none at epochs' ends.
        log_steps: steps between two entries of the training curves.
        memory_mb: host memory for examples that are ready to use. Data that fits is read once and kept; else it is read
            again in each epoch, a part at a time, and shuffled within parts.
    """

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    clip_norm: float = 0.0
    patience: int = 0
    watch: str = "loss"
    watch_mode: str = "min"
    validate_every: int = 1
    precision: str = "auto"
    seed: int = 0
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 5.0
    checkpoint_epochs: int = 0
    log_steps: int = 20
    memory_mb: int = 2048

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "log_steps", "memory_mb", "validate_every", "plateau_patience"):
            _require(getattr(self, name) >= 1, f"{name} must be 1 or more", getattr(self, name))
        for name in (
            "weight_decay", "warmup_steps", "clip_norm", "patience", "seed",
            "checkpoint_steps", "checkpoint_minutes", "checkpoint_epochs",
        ):  # fmt: skip
            _require(getattr(self, name) >= 0, f"{name} must be 0 or more", getattr(self, name))
        _require(self.lr > 0, "lr must be above 0", self.lr)
        _require(0 < self.plateau_factor < 1, "plateau_factor must be between 0 and 1", self.plateau_factor)
        _require(self.schedule in _SCHEDULES, f"schedule must be one of {', '.join(_SCHEDULES)}", self.schedule)
        _require(self.precision in _PRECISIONS, f"precision must be one of {', '.join(_PRECISIONS)}", self.precision)
        _require(self.watch_mode in _MODES, "watch_mode must be min or max", self.watch_mode)


@dataclass(frozen=True)
class SplitOptions:
    """How samples are parted into training, validation and test.

    Attributes:
        group: scalar field whose samples stay together (subject, measurement); ``id`` where each sample is its own.
        stratify: scalar field whose values are spread evenly over the parts; empty for none.
        folds: of a cross-validation, and 1/folds of the groups are the test part of a single fit.
        validation: part of what is left of the groups that is kept for validation.
        seed: of the split; apart from the fit's own, so that repeated fits see the same parts.
        part: scalar field that says of each sample whether it is ``train``, ``validation`` (or ``val``) or ``test``, for a
            single fit on the parts that a data set was published with; empty: they are made as said above.
    """

    group: str = "id"
    stratify: str = ""
    folds: int = 10
    validation: float = 1 / 9
    seed: int = 0
    part: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.group), "group must name a field, or be id", self.group)
        _require(self.folds >= 2, "folds must be 2 or more", self.folds)
        _require(0 <= self.validation < 1, "validation must be from 0 to below 1", self.validation)
        _require(self.seed >= 0, "seed must be 0 or more", self.seed)
