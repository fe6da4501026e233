"""Pictures as data URIs: thumbnails in WebP, each file encoded once, none larger than the page can
carry."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from onmodel.dataset.pixels import open_picture

LONGEST = 256  # pixels of a thumbnail's longer side; a toon picture (96) stays as it is
SMALL = 128  # of a data set's thumbnail
QUALITY = 84


class Thumbnails:
    """Encodes pictures of the stages' folders, each once."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._made: dict[tuple[Path, int], str] = {}

    def encoded(self, stage: str, file: str, longest: int = LONGEST) -> str:
        """The data URI of a picture. Raises StateError naming the file when it cannot be read."""
        key = (self._folders[stage] / file, longest)
        if key not in self._made:
            self._made[key] = encode(*key)
        return self._made[key]


def encode(path: Path, longest: int = LONGEST) -> str:
    """A WebP data URI, at most `longest` pixels long. Raises StateError when the file is missing or
    no picture."""
    picture = open_picture(path)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
