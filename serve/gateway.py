"""The way from the API and the pages to the models: which version answers, and what becomes of it when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from sensorium.catalog.lake import Catalog
from sensorium.jobs.training import configuration
from sensorium.jobs.training.method import Method, method_of
from sensorium.jobs.training.operators import Configured, Operator, referred
from sensorium.platform import plugins, systems
from sensorium.platform.errors import SensoriumError, UserError
from sensorium.serve.batching import Outcome
from sensorium.serve.uploads.limits import Limits

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Source
    from sensorium.catalog.models import Model
    from sensorium.platform.systems import System
    from sensorium.serve.queries import Queries, QueryResult
    from sensorium.serve.uploads.sandbox import Sandbox

__all__ = ["STAGE", "Answer", "Busy", "Gateway", "Hosts", "Late", "ServedModel", "only"]

logger = logging.getLogger(__name__)

#: the stage whose version answers where a request names none
STAGE = "production"
#: seconds for which a list of models is believed
_FRESH_S = 2.0
#: a call whose replica dies is made so often in all: predictions change nothing, so they may be made again
_TRIES = 3


class Busy(SensoriumError):
    """All replicas and their queues are full."""


class Late(SensoriumError):
    """The prediction took longer than it may."""


@dataclass(frozen=True)
class ServedModel:
    """What predicts, and how its system uses it: a version of a model, or an operator with its settings."""

    model: Model | Configured
    method: Method | Operator
    config: Any

    @property
    def reference(self) -> str:
        """``NAME@VERSION``, or ``SYSTEM?key=value`` of an operator."""
        return self.model.reference

    @property
    def label(self) -> str:
        """The same without settings, which are without end."""
        return self.model.system if isinstance(self.model, Configured) else self.model.reference

    @property
    def sources(self) -> tuple[Source, ...]:
        """Data sets that the model was fitted on."""
        return () if isinstance(self.model, Configured) else self.model.sources

    @property
    def target(self) -> str:
        """Field of a sample with the truth; empty without one."""
        return self.method.target(self.config) if isinstance(self.method, Method) else ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of a sample that a prediction needs."""
        return self.method.fields(self.config)

    @property
    def read(self) -> tuple[str, ...]:
        """Fields of a stored sample that a prediction looks at: what it needs, and what an operator uses where it is there."""
        optional = self.method.optional(self.config) if isinstance(self.method, Operator) else ()
        return (*self.fields, *optional)

    @property
    def modality(self) -> str:
        """Modality of the samples."""
        return self.method.modality(self.config)


@dataclass(frozen=True)
class Answer:
    """What a model says of one sample, and which model it was.

    Attributes:
        model: ``NAME@VERSION``.
        system: that fitted it.
        data: data sets that it was fitted on, ``NAME@VERSION``.
        run: id of the fit.
        result: fields of the prediction, arrays as NumPy.
        pictures: PNG files by name.
        batch: samples that were computed together.
        seconds: that it took, waiting included.
    """

    model: str
    system: str
    data: tuple[str, ...]
    run: str
    result: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)
    batch: int = 1
    seconds: float = 0.0


class Hosts(Protocol):
    """Where models run: replicas of Ray Serve, or this process."""

    async def predict(self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool) -> list[Outcome]:
        """Outcomes of samples. Raises Busy; ConnectionError where the replica was lost."""

    async def warm(self, reference: str) -> None:
        """Load a model ahead of its first request."""

    def health(self) -> dict[str, Any]:
        """State of the replicas."""


class Gateway:
    """Models and data for the API and the pages. Belongs to one event loop.

    Attributes:
        catalog: the lake.
        limits: of uploads.
        started: seconds since 1970.
    """

    def __init__(
        self,
        catalog: Catalog,
        hosts: Hosts,
        sandbox: Sandbox,
        queries: Queries,
        *,
        limits: Limits | None = None,
        seconds: float = 60.0,
    ) -> None:
        """``limits``: of uploads. ``seconds``: that a prediction may take."""
        self.catalog, self._hosts, self._seconds = catalog, hosts, seconds
        self._sandbox, self._queries, self.limits = sandbox, queries, limits or Limits()
        self.started = time.time()
        self._served: dict[str, ServedModel] = {}
        self._chosen: dict[str, str] = {}  # what was asked for -> NAME@VERSION that answers
        self._listing: tuple[float, pl.DataFrame] | None = None
        self._reading: asyncio.Task[None] | None = None
        self.requests = 0
        self.failures = 0

    # -- what there is ------------------------------------------------------------------------------------------------

    def systems(self) -> tuple[System, ...]:
        """The installed systems, by name."""
        return tuple(systems.get(name) for name in plugins.names(systems.GROUP))

    def models(self) -> pl.DataFrame:
        """Every version of every model, newest first, as of two seconds ago at most; see ``Catalog.models``."""
        if self._listing is None or time.monotonic() - self._listing[0] > _FRESH_S:
            self._listing = time.monotonic(), self.catalog.models()
        return self._listing[1]

    def served(self, reference: str) -> ServedModel:
        """A model that can answer: ``NAME@3``, ``NAME@STAGE``, or ``NAME`` for its production version, else its newest.

        An operator is named by its system, with settings behind it: ``shape_tree?iterations=5``.

        Reads the lake: not for the event loop.

        Raises:
            UnknownModel, UnknownVersion: with close matches.
            UserError: its system is not installed here, or does not predict.
        """
        subject = referred(reference)
        if subject is not None:
            return ServedModel(subject, subject.load(), subject.config)
        chosen = self._meant(reference)
        if chosen is None:
            self._listing = None  # it may have been saved a moment ago
            chosen = (
                self._meant(reference) or self.catalog.model(reference).reference
            )  # which says what is wrong with it
        if chosen not in self._served:
            model = self.catalog.model(chosen)
            method = method_of(model.system, "predict")
            config = configuration.from_json(method.config, model.configuration)
            self._served[chosen] = ServedModel(model, method, config)
        return self._served[chosen]

    def stages(self, served: ServedModel) -> tuple[str, ...]:
        """Stages that name a version now; an operator has none."""
        return () if isinstance(served.model, Configured) else self.catalog.model(served.reference).stages

    def _meant(self, reference: str) -> str | None:
        """``NAME@NUMBER`` of the version that is meant; None where the list of models has none."""
        name, _, wanted = reference.partition("@")
        versions = self.models().filter(pl.col("name") == name)
        in_production = versions.filter(pl.col("stages").list.contains(STAGE))
        if not wanted:
            versions = in_production if in_production.height else versions
        elif wanted.isdecimal():
            versions = versions.filter(pl.col("version") == int(wanted))
        else:
            versions = versions.filter(pl.col("stages").list.contains(wanted))
        return f"{name}@{max(versions['version'].to_list())}" if versions.height else None

    def health(self) -> dict[str, Any]:
        """State of the service."""
        return {
            "lake": self.catalog.storage.url,
            "started": self.started,
            "requests": self.requests,
            "failures": self.failures,
            **self._hosts.health(),
        }

    # -- from outside -------------------------------------------------------------------------------------------------

    async def read(self, files: Mapping[str, bytes], modality: str, scalars: Mapping[str, Any]) -> dict[str, Any]:
        """One sample of files from outside, read in a process that may die; see :meth:`.Sandbox.read`.

        Args:
            files: contents, by the field that each is for; ``file`` for one that holds a whole sample.
            modality: of the sample.
            scalars: further fields.

        Raises:
            RejectedUpload: 413, 415 or 422, with the reason in words.
        """
        return await self._sandbox.read(files, modality, scalars, self.limits)

    async def query(self, text: str, *, rows: int = 1000) -> QueryResult:
        """The answer to a bounded SQL SELECT over the sample tables.

        Raises:
            InvalidQuery: it is something else, or takes too much.
        """
        return await self._queries.run(text, rows=rows)

    # -- predictions --------------------------------------------------------------------------------------------------

    async def resolve(self, reference: str) -> ServedModel:
        """As :meth:`served`, without waiting for the lake where the answer is known.

        A name or stage that begins to mean another version goes on meaning the old one until the new one is loaded, so that
        no request waits for it.
        """
        known = self._chosen.get(reference)
        if known is None:
            served = await asyncio.to_thread(self.served, reference)
            if not isinstance(served.model, Configured):  # settings are without end: nothing is kept of them
                self._chosen[reference] = served.reference
            return served
        if self._reading is None:
            self._reading = asyncio.create_task(self._watch())
        return self._served[known]

    async def predict(
        self, reference: str, samples: Sequence[Mapping[str, Any]], *, pictures: bool = False
    ) -> list[Answer | SensoriumError]:
        """Answers for samples of the model's modality, in their order; an error that is a sample's takes its answer's place.

        Args:
            reference: of the model.
            samples: fields by name, arrays as NumPy.
            pictures: have results drawn.

        Raises:
            UnknownModel, UnknownVersion: there is no such model.
            Busy: try again later.
            Late: it took too long.
            CorruptData: the model's files are damaged.
        """
        started = time.perf_counter()
        served = await self.resolve(reference)
        self.requests += 1
        try:
            outcomes = await self._outcomes(served.reference, samples, pictures)
        except SensoriumError:
            self.failures += 1
            raise
        seconds = time.perf_counter() - started
        return [_answer(served, outcome, seconds) for outcome in outcomes]

    async def _outcomes(self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool) -> list[Outcome]:
        for attempt in range(_TRIES):
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._hosts.predict(reference, samples, pictures)
            except TimeoutError as error:
                raise Late(
                    f"model {reference} did not answer within {self._seconds:g} s. Send less, or use a task."
                ) from error
            except ConnectionError as error:
                logger.warning("a replica was lost while %s answered (try %d): %s", reference, attempt + 1, error)
        raise Busy(f"model {reference}: its replicas were lost {_TRIES} times in a row. Try again in a moment.")

    async def _watch(self) -> None:
        """Look again what names and stages mean, for as long as anybody asks."""
        while True:
            await asyncio.sleep(_FRESH_S)
            for reference, known in list(self._chosen.items()):
                if reference == known:
                    continue
                try:
                    served = await asyncio.to_thread(self.served, reference)
                except UserError:
                    del self._chosen[reference]  # the next request says why
                    continue
                except SensoriumError:
                    logger.exception("model %s cannot be looked up; %s goes on answering", reference, known)
                    continue
                if served.reference != known:
                    await self._change(reference, known, served.reference)

    async def _change(self, reference: str, old: str, new: str) -> None:
        try:
            await self._hosts.warm(new)
        except (SensoriumError, ConnectionError):
            logger.exception("%s cannot be loaded: %s goes on answering for %s", new, old, reference)
            return
        self._chosen[reference] = new
        logger.info("%s is answered by %s now, by %s before", reference, new, old)

    async def close(self) -> None:
        """Stop looking."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        self._sandbox.close()
        self._queries.close()


def _answer(served: ServedModel, outcome: Outcome, seconds: float) -> Answer | SensoriumError:
    if outcome.error:
        return UserError(outcome.error)
    return Answer(
        model=served.reference,
        system=served.model.system,
        data=tuple(str(source) for source in served.sources),
        run="" if isinstance(served.model, Configured) else served.model.run,
        result=outcome.result,
        pictures=outcome.pictures,
        batch=outcome.batch,
        seconds=seconds,
    )


def only(answers: Sequence[Answer | SensoriumError]) -> Answer:
    """The answer for a single sample; raises the error that is in its place."""
    (answer,) = answers
    if isinstance(answer, SensoriumError):
        raise answer
    return answer
