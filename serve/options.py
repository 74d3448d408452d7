"""How the application is served: where, to whom, and with how much of the machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sensorium.platform.errors import InvalidSetting

__all__ = ["ServeOptions", "is_loopback"]

_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ServeOptions:
    """What ``sensorium serve`` can be told.

    Attributes:
        host: address that the application listens on; nobody but this machine by default.
        port: of the application; 0 takes one that is free.
        token: that clients give (``Authorization: Bearer …``, or on the page for signing in); empty for none.
        proxy_header: header in which a proxy that signs people in names the user, such as ``X-Forwarded-User``; empty for none.
        proxies: addresses from which that header is believed.
        names: host names under which the application is reached, besides its address.
        replicas: of the model host, at least and at most.
        resident: models that a replica keeps loaded.
        running: requests that a replica works on at a time; further ones wait.
        waiting: requests that may wait for a replica; further ones are turned away with 503.
        batch: samples that a model takes at a time, at most.
        seconds: that a prediction may take; then 408.
        rate: requests a second of one client; 0 for no limit.
        body_bytes: of a request, at most.
        body_seconds: in which a request must have arrived.
        tasks: long jobs that run at a time; as many again may wait.
        pages: whether the front end is served; the API is always.
        log: file for what is logged, one JSON object a line, access included; empty for the process's standard error, which
            Ray keeps among its own logs for as long as its session lasts.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    proxy_header: str = ""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    names: tuple[str, ...] = ()
    replicas: tuple[int, int] = (1, 2)
    resident: int = 4
    running: int = 32
    waiting: int = 256
    batch: int = 32
    seconds: float = 60.0
    rate: float = 0.0
    body_bytes: int = 64 << 20
    body_seconds: float = 60.0
    tasks: int = 2
    pages: bool = True
    log: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise InvalidSetting(f"port must be 0 to 65535; got {self.port}.")
        low, high = self.replicas
        if not 1 <= low <= high:
            raise InvalidSetting(f"replicas must be 1 or more, the least before the most; got {low} and {high}.")
        for name in ("resident", "running", "batch", "body_bytes", "tasks"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} must be 1 or more; got {getattr(self, name)}.")
        for name in ("seconds", "body_seconds"):
            if getattr(self, name) <= 0:
                raise InvalidSetting(f"{name} must be above 0; got {getattr(self, name)}.")
        if self.rate < 0 or self.waiting < 0:
            raise InvalidSetting(f"rate and waiting cannot be negative; got {self.rate:g} and {self.waiting}.")
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise InvalidSetting(
                f"the token has {len(self.token)} characters; it must have {_SHORTEST_TOKEN} or more. Make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        if not is_loopback(self.host) and not self.guarded:
            raise InvalidSetting(
                f"--host {self.host} lets other machines in: give a token (SENSORIUM_TOKEN, or --token-file FILE), or name the "
                "header of the proxy that signs people in (--proxy-header X-Forwarded-User)."
            )

    @property
    def guarded(self) -> bool:
        """Whether clients have to say who they are."""
        return bool(self.token or self.proxy_header)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
