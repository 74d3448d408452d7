"""The REST API: models, data, queries and long jobs, with an OpenAPI page that works without a network."""

from __future__ import annotations

from sensorium.serve.api.application import Service, build

__all__ = ["Service", "build"]
