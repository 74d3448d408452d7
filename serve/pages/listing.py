"""What the pages read of the lake: cheap listings are believed for two seconds, what hangs on a version for longer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import polars as pl

from sensorium.catalog.selection import query_error
from sensorium.platform.errors import UnknownSample
from sensorium.serve.queries import check_condition

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection
    from sensorium.serve.gateway import Gateway

__all__ = ["PAGE", "Listing", "Page", "Recent", "View"]

#: samples on a page of the grid
PAGE = 12
#: seconds for which a listing is believed
_FRESH_S = 2.0
#: seconds for which what belongs to one version is kept: it cannot change, but memory is not endless
_KEPT_S = 600.0

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, each believed for ``seconds``; of more than ``most`` the one longest unused is forgotten."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._held: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made where there is none or it is too old. Errors are not kept."""
        with self._lock:
            held = self._held.get(key)
            if held is not None and time.monotonic() - held[0] < self._seconds:
                self._held.move_to_end(key)
                return held[1]
        value = make()  # outside the lock: one slow data set must not stop the others
        with self._lock:
            self._held[key] = time.monotonic(), value
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return value


@dataclass(frozen=True)
class View:
    """Which samples are looked at: a data set at a version, a predicate (SQL, empty for all), a page from 0."""

    name: str
    version: int
    where: str = ""
    number: int = 0


@dataclass(frozen=True)
class Page:
    """One page of a view: ids of its samples in order, and how many samples the view has in all."""

    ids: tuple[str, ...]
    total: int

    @property
    def pages(self) -> int:
        """At least 1."""
        return max(1, -(-self.total // PAGE))


class Listing:
    """The lake as the pages read it.

    Attributes:
        gateway: behind which everything is.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._datasets: Recent[pl.DataFrame] = Recent(_FRESH_S, 1)
        self._sweeps: Recent[list[str]] = Recent(_FRESH_S, 1)
        self._versioned: Recent[Any] = Recent(_KEPT_S, 64)
        self._pages: Recent[Page] = Recent(_KEPT_S, 256)
        self._pictures: Recent[bytes] = Recent(_KEPT_S, 512)

    @property
    def catalog(self) -> Catalog:
        """The lake."""
        return self.gateway.catalog

    def datasets(self) -> pl.DataFrame:
        """As ``Catalog.datasets``."""
        return self._datasets.get("", self.catalog.datasets)

    def sweeps(self) -> list[str]:
        """Names of the data sets that hold the rows of a sweep."""
        columns = {"metric_definitions", "bits_per_pixel", "codec", "quality", "error", "image_id"}

        def found() -> list[str]:
            return [name for name in self.catalog.names() if columns <= set(self.catalog[name].fields)]

        return self._sweeps.get("", found)

    def view(self, name: str, version: str = "", where: str = "", number: int = 0) -> View:
        """What an address names, pinned to a version.

        Raises:
            UnknownDataset, UnknownVersion: with close matches.
        """
        dataset = self.catalog.dataset(name, version or None)
        return View(dataset.name, dataset.version, where, max(0, number))

    def dataset(self, view: View) -> Dataset:
        """The data set at the view's version."""
        dataset: Dataset = self._versioned.get(
            ("dataset", view.name, view.version), lambda: self.catalog.dataset(view.name, view.version)
        )
        return dataset

    def selection(self, view: View) -> Selection:
        """The samples of the view, all pages.

        Raises:
            InvalidQuery, UnknownField: the predicate cannot be used.
        """
        if view.where:
            check_condition(view.where)  # whoever reads the page is a stranger: nothing but fields and plain functions
        return self.dataset(view).select(view.where or None)

    def page(self, view: View) -> Page:
        """The view's page; the last one where it has fewer.

        Raises:
            InvalidQuery, UnknownField: the predicate cannot be used.
        """
        return self._pages.get(view, lambda: self._page(view))

    def _page(self, view: View) -> Page:
        selection = self.selection(view)
        total = len(selection)
        number = min(view.number, Page((), total).pages - 1)
        ids = self._ids(selection, lambda frame: frame.slice(number * PAGE, PAGE))
        return Page(tuple(ids), total)

    def samples(self, view: View, ids: tuple[str, ...]) -> list[Sample]:
        """The samples of these ids, in the order of their ids."""
        return list(self.dataset(view).select(pl.col("id").is_in(ids)))

    def sample(self, view: View, identifier: str) -> Sample:
        """One sample.

        Raises:
            UnknownSample: there is none of that id.
        """
        found = self.samples(view, (identifier,))
        if not found:
            raise UnknownSample(
                f"data set {view.name!r} at version {view.version} has no sample {identifier!r}. "
                "Look for it in the grid of the data set."
            )
        return found[0]

    def neighbours(self, view: View, identifier: str) -> tuple[str | None, str | None]:
        """Ids of the samples before and after one, among those of the view."""
        selection = self.selection(view)
        before = self._ids(selection, lambda frame: frame.filter(pl.col("id") < identifier).tail(1))
        after = self._ids(selection, lambda frame: frame.filter(pl.col("id") > identifier).head(1))
        return next(iter(before), None), next(iter(after), None)

    def picture(self, view: View, identifier: str, draw: Callable[[], bytes]) -> bytes:
        """The preview of a sample, drawn once."""
        return self._pictures.get((view.name, view.version, identifier), draw)

    def kept(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Anything else that belongs to one version; ``key`` names the version."""
        value: Value = self._versioned.get(key, make)
        return value

    def _ids(self, selection: Selection, part: Callable[[pl.LazyFrame], pl.LazyFrame]) -> list[str]:
        try:
            return part(selection.lazy().select("id")).collect()["id"].to_list()
        except pl.exceptions.PolarsError as error:
            raise query_error(error, selection.name, selection.declaration) from error
