"""Every limit on what a shop may send, in one place, so that the documents can state them."""

from decimal import Decimal
from typing import Final

MAX_BODY_BYTES: Final = 100 * 1024
"""Size of one request body; the limit of the API this one replaces (100 KB)."""

MAX_EVENTS_PER_REQUEST: Final = 100
"""Events in one request."""

MAX_EVENT_ID_CHARS: Final = 200
MAX_DISPATCH_KEY_CHARS: Final = 200
MAX_NAME_CHARS: Final = 100
MAX_ID_CHARS: Final = 256
MAX_TEXT_CHARS: Final = 1024
MAX_URL_CHARS: Final = 4096
MAX_USER_AGENT_CHARS: Final = 2048
MAX_EMAIL_CHARS: Final = 320
MAX_CLICK_ID_CHARS: Final = 1024

MAX_CONTENTS: Final = 500
"""Line items in one event."""

MAX_QUANTITY: Final = 1_000_000
MAX_MONEY: Final = Decimal(10) ** 12
"""Largest value or price, in base units of the currency."""

MAX_MONEY_DECIMALS: Final = 6
"""Digits after the point; three are enough for any currency, more are for unit prices."""

MIN_EVENT_TIME_SECONDS: Final = 1_000_000_000
"""2001-09-09: anything earlier is a clock that was never set."""

MAX_EVENT_TIME_SECONDS: Final = 100_000_000_000
"""Above this a number can only be milliseconds, and is read as such."""
