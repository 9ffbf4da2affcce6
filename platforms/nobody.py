"""Whom the event of a probe is about: nobody.

What a platform takes for a test, or refuses, still has to be a whole event: with an address that no
person can have, at a page that is nobody's shop.
"""

from typing import Final

from platforms.digest import sha256

EMAIL_SHA256: Final = sha256("nobody@example.com")
URL: Final = "https://example.com/"
EVENT_ID: Final = "capistream-credentials-check"
LONG_SECONDS: Final = 60 * 86400
"""Longer ago than any platform takes events of a website, or counts them."""
