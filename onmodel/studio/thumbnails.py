"""Small pictures for grids, kept in the workspace by content: WORKSPACE/.studio/thumbnails/ab/.

A file is decoded only while its bytes are those that were read at import: those were checked.
"""

import io
from pathlib import Path

from PIL import Image

from onmodel.dataset.formats import readable, upright
from onmodel.dataset.pixels import WHITE, as_shown
from onmodel.errors import StateError
from onmodel.hashing import sha256_bytes, write_atomic
from onmodel.paths import inside

LONGEST = 256  # pixels of the longer side
LARGE = 1024  # of one that is looked at by itself
QUALITY = 80


def thumbnail(
    cache: Path, picture: Path, sha256: str, background: str = "", longest: int = LONGEST
) -> bytes:
    """A WebP of the picture whose file has this hash. Raises StateError when the file is missing or
    not as it was imported."""
    size = "" if longest == LONGEST else f"-{longest}"
    kept = inside(cache, f"{sha256[:2]}/{sha256}{size}.webp", "picture")
    if kept.is_file():
        return kept.read_bytes()
    try:
        data = picture.read_bytes()
    except OSError as error:
        raise StateError(picture, f"cannot be read ({error.strerror})") from error
    if sha256_bytes(data) != sha256:
        raise StateError(picture, "is not as it was imported; import it again")
    with Image.open(io.BytesIO(data), formats=readable()) as file:
        file.draft("RGB", (2 * longest, 2 * longest))  # JPEGs are decoded at a fraction
        file.load()
        shown = as_shown(upright(file), background or WHITE)
    shown.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=QUALITY, method=1)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, buffer.getvalue())
    return buffer.getvalue()
