"""Work that goes on where workers are lost, and is given up where it only kills them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import ray

from sensorium.jobs.retries import through_losses
from sensorium.platform.errors import InvalidSample, WorkerFailed


class Work:
    """Does a number of things, at most ``stride`` before its workers are lost."""

    def __init__(self, things: int, stride: int, error: Callable[[], Exception]) -> None:
        self.left, self.goes, self._stride, self._error = things, 0, stride, error

    def __call__(self) -> None:
        self.goes += 1
        self.left -= min(self.left, self._stride)
        if self.left:
            raise self._error()


def test_what_gets_on_goes_on_however_often_workers_are_lost() -> None:
    work = Work(10, 2, ray.exceptions.ActorDiedError)
    through_losses(work, lambda: work.left)
    assert (work.left, work.goes) == (0, 5)


def test_what_does_not_get_on_is_tried_once_more() -> None:
    work = Work(10, 0, ray.exceptions.WorkerCrashedError)
    with pytest.raises(WorkerFailed, match=r"with 10 samples left.*the same command goes on"):
        through_losses(work, lambda: work.left)
    assert work.goes == 2


def test_other_errors_are_not_tried_again() -> None:
    work = Work(10, 2, lambda: InvalidSample("sample 'a' is wrong."))
    with pytest.raises(InvalidSample):
        through_losses(work, lambda: work.left)
    assert work.goes == 1
