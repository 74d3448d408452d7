"""The Ray Serve application: the front, and the hosts of the models."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sensorium.platform.errors import WorkerFailed
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings
from sensorium.platform.storage import Storage
from sensorium.serve.options import ServeOptions

__all__ = ["NAME", "Served", "application", "serving"]

logger = logging.getLogger(__name__)

NAME = "sensorium"

#: Ray Serve reads these when it is imported. Calls between deployments go straight from one event loop to the other, which
#: takes a fifth of the time that the usual way through threads and Ray's task queue does.
_FAST = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_FREEZE_GC_ON_STARTUP": "1",
}
#: share of a core that Ray sets aside for a replica: it waits more than it works
_CORES = 0.5


@dataclass(frozen=True)
class Served:
    """An application that runs.

    Attributes:
        host, port: where it listens.
    """

    host: str
    port: int

    @property
    def address(self) -> str:
        """URL of the application."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@contextmanager
def serving(lake: Storage, options: ServeOptions, settings: Settings) -> Iterator[Served]:
    """The application for the length of the block; everything that was started is stopped afterwards.

    Raises:
        UserError: the address is taken, or no cluster answers.
        WorkerFailed: the application does not start, and why.
    """
    from ray import serve

    from sensorium.serve.front import bound

    if not settings.address:  # what is wrong with the address should be said before Ray is started
        listening = bound(options.host, options.port)
        options = replace(options, port=listening.getsockname()[1])
        listening.close()
    # set after Ray Serve was imported here: they are for the processes that Ray starts
    with _environment(_FAST), ray_session(settings):
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        try:
            _deploy(lake, options, remote=bool(settings.address))
            yield Served(options.host, options.port)
        finally:
            # the application only: on a cluster there may be others, and a local Ray ends with its session
            serve.delete(NAME)


def _deploy(lake: Storage, options: ServeOptions, *, remote: bool) -> None:
    from ray import serve

    try:
        serve.run(application(lake, options, remote=remote), name=NAME, route_prefix=None)
    except RuntimeError as error:
        said = [part.message for part in serve.status().applications[NAME].deployments.values() if part.message]
        raise WorkerFailed(f"the application does not start: {'; '.join(said) or error}") from error


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def application(lake: Storage, options: ServeOptions, *, remote: bool = False) -> Any:
    """The application as Ray Serve takes it."""
    import ray
    from ray import serve
    from ray.serve.config import AutoscalingConfig

    from sensorium.serve.front import Front
    from sensorium.serve.host import ModelHost

    environment = {"runtime_env": {"env_vars": _FAST}} if remote else {}
    low, high = options.replicas
    gpus = 1 if ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1 else 0
    host = serve.deployment(
        ModelHost,
        name="ModelHost",
        max_ongoing_requests=options.running,
        max_queued_requests=options.waiting,
        autoscaling_config=AutoscalingConfig(
            min_replicas=low, max_replicas=high, target_ongoing_requests=options.running / 2
        ),
        ray_actor_options={"num_cpus": _CORES, "num_gpus": gpus, **environment},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=20,
        graceful_shutdown_wait_loop_s=0.2,
    ).bind(lake, options.resident, options.batch)
    return serve.deployment(
        Front,
        name="Front",
        num_replicas=1,
        max_ongoing_requests=100,
        # where the command runs, or where a cluster's head is: that is the address which people are told
        ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}, **environment},
        health_check_period_s=2,
        health_check_timeout_s=60,  # the first begins to listen, which imports everything
        graceful_shutdown_timeout_s=15,
        graceful_shutdown_wait_loop_s=0.2,
    ).bind(lake, options, host)
