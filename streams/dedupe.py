"""Which copy of an event counts: the one whose offset claimed it first. Pure.

A claim holds the offset of its owner, not just a mark. A record that is worked again after a
crash finds its own offset there and goes on; with a bare mark it would take itself for a
duplicate, and the event would be lost.
"""

from schemas.raw_event import RawEvent


def claim_key(raw: RawEvent) -> str:
    """What must be unique within a domain: the id together with the name, as the platforms have
    it (one order id may name a Purchase and a Lead). In whose words it came makes no difference."""
    canonical, own = raw.names
    name = own or ""
    # The name's length keeps a colon in a name from reading like one between name and id.
    return f"dedupe:{raw.domain_id}:{canonical}:{len(name)}:{name}:{raw.said.event_id}"


def source_token(topic: str, partition: int, offset: int) -> str:
    """Where a record lies: the value of its claim, and its name in every outcome."""
    return f"{topic}-{partition}-{offset}"


def first_source(token: str, holder: str | None) -> str | None:
    """None when the record of ``token`` is the copy that counts, else where that copy lies."""
    return None if holder is None or holder == token else holder
