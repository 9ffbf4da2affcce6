"""A body of ``POST /v1/pmw-events`` → one event in the platforms' own words. Pure.

The body is one object with a block for each platform that is to get the event, as the replaced
plugin's browser code sends it: ``{"event": "add_to_cart", "facebook": {…}, "tiktok": {…}}``. A
block goes out as it came; only what a platform demands and the sender left out is filled in.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ingest.validate import (
    AcceptedEvent,
    AcceptedRequest,
    InvalidPayloadError,
    read_object,
    refuse_unknown,
)
from platforms.blocks import BlockError, ReadBlock, read_block
from platforms.registry import PLATFORMS
from schemas.event import EventName
from schemas.limits import MAX_NAME_CHARS

SLUGS: Final[Mapping[str, str]] = {slug: slug for slug in PLATFORMS} | {"facebook": "meta"}
_BESIDE_BLOCKS: Final = frozenset({"event", "product"})

EVENT_NAMES: Final[Mapping[str, EventName]] = {
    "page_view": EventName.PAGE_VISIT,
    "view_item": EventName.VIEW_CONTENT,
    "search": EventName.SEARCH,
    "add_to_cart": EventName.ADD_TO_CART,
    "add_to_wishlist": EventName.ADD_TO_WISHLIST,
    "begin_checkout": EventName.INITIATE_CHECKOUT,
    "add_payment_info": EventName.ADD_PAYMENT_INFO,
    "purchase": EventName.PURCHASE,
}
"""What the plugin calls a shopper's action; another name, such as ``login``, stays as it is."""


def read_blocks(
    body: bytes,
    *,
    strict: bool,
    received_at: int,
    ip_address: str | None,
    user_agent: str | None,
) -> AcceptedRequest:
    """Validate one body; ``received_at`` (Unix milliseconds) stands in for a time that is missing.

    Raises ``InvalidPayloadError``.
    """
    document = read_object(body)
    named = _event_name(document)
    blocks = _blocks(document, received_at)
    unknown = sorted(document.keys() - _BESIDE_BLOCKS - SLUGS.keys())
    refuse_unknown(unknown, strict=strict)
    by_platform = {slug: block.payload for slug, block in blocks.items()}
    first = next(iter(blocks.values()))
    # SnackVideo takes no time, so its block cannot tell when it was.
    timed = next((b for slug, b in blocks.items() if PLATFORMS[slug].BLOCK.time), first)
    event_id = next((b.event_id for b in blocks.values() if b.event_id), None)
    event = {
        "eventId": event_id or _digest(by_platform),
        "eventName": EVENT_NAMES.get(named, named) if named else first.event_name,
        "eventTime": timed.event_time,
        "byPlatform": by_platform,
    }
    accepted = AcceptedEvent(
        event_id=str(event["eventId"]),
        document=event,
        form="blocks",
        address=ip_address,
        user_agent=user_agent,
    )
    return AcceptedRequest([accepted], unknown)


def _event_name(document: Mapping[str, Any]) -> str | None:
    named = document.get("event")
    if named is None:
        return None
    if not isinstance(named, str) or not named.strip() or len(named) > MAX_NAME_CHARS:
        raise InvalidPayloadError(
            f"must be a name of 1 to {MAX_NAME_CHARS} characters, such as add_to_cart", "event"
        )
    return named.strip()


def _blocks(document: Mapping[str, Any], received_at: int) -> dict[str, ReadBlock]:
    blocks: dict[str, ReadBlock] = {}
    for key, block in document.items():
        slug = SLUGS.get(key)
        if slug is None or block is None:
            continue
        if not isinstance(block, dict):
            raise InvalidPayloadError("must be an object: the event as that platform takes it", key)
        if slug in blocks:
            raise InvalidPayloadError(f"names the same platform as {slug}: send one of them", key)
        try:
            blocks[slug] = read_block(block, PLATFORMS[slug].BLOCK, received_at)
        except BlockError as error:
            where = f"{key}.{error.field}" if error.field else key
            raise InvalidPayloadError(error.message, where) from None
    if not blocks:
        raise InvalidPayloadError(f"must hold a block for one of {', '.join(SLUGS)}")
    return blocks


def _digest(by_platform: Mapping[str, Any]) -> str:
    """An id for an event without one: the same for the same blocks of the same moment."""
    canonical = orjson.dumps(by_platform, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()
