"""``python -m tests.integration.shop HOST DATA_DIR '{"options": …, "tokens": {…}, "publishes": …}'``.

Does what ``capistream domain add`` and a ``destination set`` per platform do, in one process: the
tests make many shops, and each command takes a second to start.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from capistream.stack import open_store
from manage.publish import publish
from platforms.registry import PLATFORMS
from runtime.clock import SystemClock
from runtime.settings import load_settings


async def add(host: str, directory: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Register a shop with a destination at each platform; answers its ids and its tokens."""
    settings = load_settings(directory)
    store = open_store(settings, SystemClock())
    try:
        await store.upgrade()
        # An organisation of its own: nobody else's events count towards its quota.
        added = await store.add_domain(host, host, wanted["options"])
        config = added.config
        destinations = {}
        account = f"pixel{host.partition('.')[0]}"
        for slug, platform in PLATFORMS.items():
            fields = {"pixel_id": account, "access_token": wanted["tokens"].get(slug, "good-token")}
            fields[platform.Credentials.account_field] = account
            changed = await store.set_destination(host, slug, fields)
            config, destinations[slug] = changed.config, changed.destination.id
    finally:
        await store.close()
    if wanted["publishes"]:
        await publish(settings, [config])
    return {
        "domainId": added.domain_id,
        "domainToken": added.domain_token,
        "syncToken": added.sync_token,
        "destinations": destinations,
    }


if __name__ == "__main__":
    made = asyncio.run(add(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
    print(json.dumps(made))
