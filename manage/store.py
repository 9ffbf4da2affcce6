"""The store of what merchants configure, over SQLAlchemy; SQLite by default, PostgreSQL in
production."""

from manage.destination_store import ChangedDestination
from manage.domain_store import ChangedDomain, NewDomain, NewToken
from manage.rows import ById, RefusedChangeError, Which, organisation_configs
from manage.sync_store import KnownCallback, Push, Pushed, SyncStore, TakenAccount

__all__ = [
    "ById",
    "ChangedDestination",
    "ChangedDomain",
    "KnownCallback",
    "NewDomain",
    "NewToken",
    "Push",
    "Pushed",
    "RefusedChangeError",
    "Store",
    "TakenAccount",
    "Which",
    "organisation_configs",
]


class Store(SyncStore):
    """Reads and changes the configuration: its domains, their destinations, and what shops push."""
