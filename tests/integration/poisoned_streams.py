"""``python -m tests.integration.poisoned_streams streams``: a release with a mistake in a mapping.

The command line is the usual one; only Meta's mapping fails for events whose id says so.
"""

from typing import Any, Final

from capistream.cli import main
from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.event import Event
from schemas.outcome import Skip

POISON: Final = "poison-"


class Mistaken:
    """A platform, but for events that its mapping has a mistake for."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def payload(self, event: Event, destination: Destination) -> dict[str, Any] | Skip:
        """The platform's own, or the mistake."""
        if event.event_id.startswith(POISON):
            raise KeyError(event.user_data.email)
        found: dict[str, Any] | Skip = self._platform.payload(event, destination)
        return found


if __name__ == "__main__":
    PLATFORMS["meta"] = Mistaken(PLATFORMS["meta"])
    main()
