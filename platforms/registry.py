"""The platforms there are. Adding one is its file, a line here and a golden folder."""

from typing import Final

from platforms import meta, pinterest, reddit, snackvideo, snapchat, tiktok
from platforms.base import Platform

PLATFORMS: Final[dict[str, Platform]] = {
    platform.SLUG: platform for platform in (meta, tiktok, pinterest, snapchat, reddit, snackvideo)
}
