"""All of the front put together: guard, API, pages, over one gateway."""

from __future__ import annotations

from typing import Any

from fastapi.responses import RedirectResponse, Response

from sensorium.catalog.lake import Catalog
from sensorium.serve.api import Service, build
from sensorium.serve.gateway import Gateway, Hosts
from sensorium.serve.guard import Guard
from sensorium.serve.measurements import Measurements
from sensorium.serve.options import ServeOptions
from sensorium.serve.queries import Queries
from sensorium.serve.tasks import Tasks
from sensorium.serve.uploads.limits import Limits
from sensorium.serve.uploads.sandbox import Sandbox

__all__ = ["compose"]


def compose(catalog: Catalog, hosts: Hosts, options: ServeOptions) -> Any:
    """The ASGI application. Belongs to the event loop that it is made in."""
    measurements = Measurements()
    lake = catalog.storage
    queries = Queries(lake.root if lake.local else lake.url, options=lake.options)
    limits = Limits(body_bytes=options.body_bytes)
    gateway = Gateway(catalog, hosts, Sandbox(), queries, limits=limits, seconds=options.seconds)
    service = Service(gateway, Tasks(options.tasks), measurements, options)

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    guard = Guard(inner, options, measurements)
    signing = (guard.opens, guard.cookie) if options.token else (None, None)
    application: Any = build(service, *signing)

    start = "/ui/" if options.pages else "/docs"
    application.add_api_route("/", lambda: RedirectResponse(start), include_in_schema=False)
    # the pages name their icon themselves, but browsers ask for this one all the same
    application.add_api_route("/favicon.ico", lambda: Response(status_code=204), include_in_schema=False)
    if options.pages:
        from sensorium.serve.pages.application import mount
        from sensorium.serve.panels import panels

        application = mount(application, gateway, panels(gateway), largest=options.body_bytes)
    return guard
