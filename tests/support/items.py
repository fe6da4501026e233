"""Items without pictures."""

from typing import Any

from onmodel.records import Item


def item(**facts: Any) -> Item:
    """An item with these facts."""
    base = {
        "image": "images/a.png",
        "sha256": "a" * 64,
        "width": 96,
        "height": 96,
        "subset": "base",
        "tags": "1girl",
        "sentence": "",
        "group": 0,
        "split": "train",
        "origin": "toon",
    }
    return Item(**(base | facts))
