"""What the service counts about itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Measurements"]

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SAMPLES = (1, 2, 4, 8, 16, 32, 64)


class Measurements:
    """Counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "sensorium_requests", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "sensorium_request_seconds",
            "Time to the end of the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            "sensorium_predictions", "Samples that were predicted.", ["model", "outcome"], registry=registry
        )
        self._batches = Histogram(
            "sensorium_batch_samples",
            "Samples that were computed together.",
            ["model"],
            buckets=_SAMPLES,
            registry=registry,
        )
        self.replicas = Gauge("sensorium_replicas", "Replicas of the model host that run.", registry=registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request by its route, not its path: paths are without end."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def prediction(self, model: str, batch: int, *, failed: bool) -> None:
        """Count a sample."""
        self._predictions.labels(model, "error" if failed else "result").inc()
        if not failed:
            self._batches.labels(model).observe(batch)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)
