"""Small pictures for grids, kept in the workspace by content: WORKSPACE/.studio/thumbnails/ab/.

A file is decoded only while its bytes are those that were read at import: those were checked.
Thumbnails are JPEG: encoding one as WebP takes ten times as long and saves a quarter of its bytes.
"""

import io
from contextlib import suppress
from pathlib import Path

from PIL import Image

from onmodel.curate.crop import crop
from onmodel.curate.workshop import Piece
from onmodel.dataset.formats import readable, upright
from onmodel.dataset.pixels import WHITE, as_shown
from onmodel.errors import StateError
from onmodel.hashing import sha256_bytes, write_cached
from onmodel.paths import inside

LONGEST = 256  # pixels of the longer side
LARGE = 1024  # of one that is looked at by itself
QUALITY = 80
MEDIA_TYPE = "image/jpeg"
_END = b"\xff\xd9"  # of a JPEG; a file that a power cut left without it is made again


def thumbnail(cache: Path, piece: Piece, longest: int = LONGEST) -> bytes:
    """A JPEG of a picture as it is turned and cropped. Raises StateError when its file is missing
    or not as it was imported."""
    size = "" if longest == LONGEST else f"-{longest}"
    kept = inside(cache, f"{piece.content[:2]}/{piece.content}{size}.jpg", "picture")
    with suppress(FileNotFoundError):
        made = kept.read_bytes()
        if made.endswith(_END):
            return made
    try:
        data = piece.path.read_bytes()
    except OSError as error:
        raise StateError(piece.path, f"cannot be read ({error.strerror})") from error
    if sha256_bytes(data) != piece.sha256:
        raise StateError(piece.path, "is not as it was imported; import it again")
    with Image.open(io.BytesIO(data), formats=readable()) as file:
        if not piece.box:
            # JPEGs are decoded at a fraction, not below this
            file.draft("RGB", (longest, longest))
        file.load()
        shown = crop(as_shown(upright(file), piece.paper or WHITE), piece.turn, piece.box)
    shown.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=QUALITY)
    made = buffer.getvalue()
    write_cached(kept, made)
    return made
