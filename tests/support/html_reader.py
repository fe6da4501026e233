"""Reads an HTML page strictly."""

from html.parser import HTMLParser
from typing import ClassVar

VOID = {"meta", "img", "br", "input"}


class Reader(HTMLParser):
    """Checks that elements close in order; gathers ids, addresses and text."""

    addresses: ClassVar = {"src", "href", "action", "srcset", "poster"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.found += [value or "" for name, value in attrs if name in self.addresses]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)
