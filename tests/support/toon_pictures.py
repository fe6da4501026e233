"""Small toon pictures with captions, as files of a person's folder."""

import io
from pathlib import Path

from onmodel.toon.datasets import STANDIN_SETS, draw_item


def toon_picture(i: int) -> tuple[bytes, str]:
    """A toon of 64 px as PNG, and its caption."""
    image, _, caption, _ = draw_item(STANDIN_SETS["reference"], i, (64, 64))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), caption


def write_pictures(folder: Path, count: int, sentence: str = "") -> list[Path]:
    """N.png and N.txt; returns all of them. Each caption ends with `sentence`."""
    found = []
    for i in range(count):
        data, caption = toon_picture(i)
        picture, text = folder / f"{i}.png", folder / f"{i}.txt"
        picture.write_bytes(data)
        text.write_text(f"{caption}\n{sentence}\n" if sentence else f"{caption}\n")
        found += [picture, text]
    return found
