"""Every route of the management API: what is served, and what its OpenAPI document tells."""

from typing import Final

from manage import auth_api, domain_api, events_api, org_api, sync_api
from manage.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *auth_api.ROUTES,
    *org_api.ROUTES,
    *events_api.ROUTES,
    *domain_api.ROUTES,
    *sync_api.ROUTES,
)
