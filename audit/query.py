"""The queries of a page of the event log. Pure.

Rows are looked for branch by branch: within each the index has them in the order of the page, so that
only as many are read as the page holds, however many there are.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Text,
    bindparam,
    func,
    select,
    true,
    tuple_,
    union_all,
)

from audit.tables import DELIVERIES
from schemas.event_log import EventQuery

Filters: TypeAlias = list[ColumnElement[bool]]
Found: TypeAlias = Sequence[Row[Any]]

_CURSOR: Final = struct.Struct(">q16s")
_NEWEST_FIRST: Final = (DELIVERIES.c.received_at.desc(), DELIVERIES.c.delivery_id.desc())


class Branch(NamedTuple):
    """A part of the index in which rows lie in the order of the page."""

    domain_id: str
    text_id: int | None = None


def can_be_told(value: object) -> bool:
    """PostgreSQL does not take a text with NUL even to look for it; there is none."""
    return not isinstance(value, str) or "\x00" not in value


def filters_of(query: EventQuery) -> Filters:
    """All filters that are about a delivery's own row.

    Raises ``ValueError`` for a cursor that is not ours.
    """
    columns = DELIVERIES.c
    wanted: dict[str, str | None] = {
        "destination_id": query.destination_id,
        "platform": query.platform,
        "event_name": query.event_name,
        "state": query.outcome,
        "reason": query.reason,
        "event_id": query.event_id,
    }
    filters: Filters = [
        columns[name] == str(value) for name, value in wanted.items() if value is not None
    ]
    if query.since is not None:
        filters.append(columns.received_at >= query.since)
    if query.until is not None:
        filters.append(columns.received_at < query.until)
    if query.cursor is not None:
        received_at, name = read_cursor(query.cursor)
        # Said twice: the first part alone is what partitions are chosen by.
        filters.append(columns.received_at <= received_at)
        filters.append(tuple_(columns.received_at, columns.delivery_id) < tuple_(received_at, name))
    return filters


def _branch(domain_id: Any, text_id: Any, filters: Filters, limit: int) -> Select[*tuple[Any, ...]]:
    query = select(DELIVERIES).where(DELIVERIES.c.domain_id == domain_id, *filters)
    if text_id is not None:
        query = query.where(DELIVERIES.c.text_id == text_id)
    return query.order_by(*_NEWEST_FIRST).limit(limit)


def together(branches: Sequence[Branch], filters: Filters, limit: int) -> Select[*tuple[Any, ...]]:
    """All branches in one query, for SQLite."""
    parts = [
        select(_branch(*branch, filters, limit).subquery(f"branch_{number}"))
        for number, branch in enumerate(branches)
    ]
    found = union_all(*parts).subquery("found")
    newest = (found.c.received_at.desc(), found.c.delivery_id.desc())
    return select(found).order_by(*newest).limit(limit)


def laterally(branches: Sequence[Branch], filters: Filters, limit: int) -> Select[*tuple[Any, ...]]:
    """The same for PostgreSQL, which would plan each part by itself."""
    domain_ids = bindparam("domains", [one.domain_id for one in branches], ARRAY(Text))
    text_ids = bindparam("texts", [one.text_id for one in branches], ARRAY(BigInteger))
    given = func.unnest(domain_ids, text_ids).table_valued("domain_id", "text_id").render_derived()
    text_id = given.c.text_id if branches[0].text_id is not None else None
    part = _branch(given.c.domain_id, text_id, filters, limit).lateral("found")
    newest = (part.c.received_at.desc(), part.c.delivery_id.desc())
    return select(part).select_from(given.join(part, true())).order_by(*newest).limit(limit)


def place_of(row: Row[Any]) -> tuple[int, bytes]:
    """What deliveries are ordered by: when the event was received, and their name."""
    return row.received_at, row.delivery_id


def cursor_of(row: Row[Any]) -> str:
    """Where the page after this row begins."""
    return base64.urlsafe_b64encode(_CURSOR.pack(*place_of(row))).decode()


def read_cursor(cursor: str) -> tuple[int, bytes]:
    """The place that a cursor names. Raises ``ValueError`` when it is not ours."""
    try:
        received_at, name = _CURSOR.unpack(base64.b64decode(cursor, b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise ValueError("the cursor is none of ours") from None
    return received_at, name
