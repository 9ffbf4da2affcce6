"""The tags of a page, for tests of what is served to browsers."""

from html.parser import HTMLParser
from typing import Final

from typing_extensions import override

_VOID: Final = {"meta", "link", "br", "img", "input"}


class Outline(HTMLParser):
    """What a page is made of; fails on a tag that is closed and was not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
