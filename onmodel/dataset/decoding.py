"""Decode and check the bytes of a picture file: the format by its content, size and shape by its
header, then every pixel.

Files from elsewhere are decoded in a separate process (dataset/decoder.py), files that this package
wrote in this one.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from onmodel.dataset.formats import (
    DECODER_ERRORS,
    SUFFIXES,
    format_of,
    jxl_header,
    readable,
    unreadable,
    upright,
)
from onmodel.dataset.pixels import WHITE, as_shown, pixels_sha256, profile_of, shrunk
from onmodel.hashing import sha256_bytes
from onmodel.text import printable

MIN_SIDE = 16
MAX_PIXELS = 64_000_000
MAX_ASPECT = 4.0
MAX_BYTES = 256 * 2**20
LONGEST_PROFILE = 80  # characters of a colour profile's name
# 16 bits a channel would be clipped to white when a grey picture is read as 8 bits.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class Refused(Exception):
    """A file does not enter the data set; the text is the reason."""


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A checked picture file with what decoding found. `data` are the file's own bytes.

    Width and height are in pixels after the EXIF rotation. `pixels` is the SHA-256 of its pixels
    and size, `small` the thumbnail of pixels.small. `background` is the colour (#rrggbb)
    behind transparent pixels, "" without any; `profile` the name of its colour profile, or "".
    """

    data: bytes
    sha256: str
    pixels: str
    suffix: str
    width: int
    height: int
    small: Image.Image
    background: str = ""
    profile: str = ""


Decode = Callable[
    [bytes, str], DecodedPicture
]  # of a file's bytes and the background; raises Refused


def decode(data: bytes, background: str = WHITE) -> DecodedPicture:
    """Check the header, then decode the whole picture. Raises Refused with the reason."""
    image, suffix = pixels(data)
    shown = as_shown(image, background)
    return DecodedPicture(
        data,
        sha256_bytes(data),
        pixels_sha256(shown),
        suffix,
        *image.size,
        shrunk(shown),
        background.lower() if image.has_transparency_data else "",
        printable(profile_of(image))[:LONGEST_PROFILE],
    )


def pixels(data: bytes) -> tuple[Image.Image, str]:
    """The decoded picture, upright, and its format's suffix. Raises Refused with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # size and depth are judged here, not by Pillow's warnings
            format = _check_header(data)
            if format == "PNG":
                with Image.open(io.BytesIO(data), formats=(format,)) as file:
                    file.verify()  # checksums; the picture must then be opened anew
            with Image.open(io.BytesIO(data), formats=(format,)) as file:
                file.load()
                image = upright(file)
    except MemoryError as error:
        raise Refused("needs too much memory to decode; save it smaller") from error
    except UnidentifiedImageError as error:
        raise Refused(unreadable(data)) from error
    except DECODER_ERRORS as error:
        told = str(error)[:80].partition(" Please build")[
            0
        ]  # libjxl's advice to those who made its plugin
        raise Refused(f"damaged picture ({told or type(error).__name__})") from error
    if image.mode in _DEEP_MODES:
        raise Refused(f"{image.mode} pixels of more than 8 bits; save it with 8 bits a channel")
    return image, SUFFIXES[format]


def _check_header(data: bytes) -> str:
    """The format; it and the size are judged before a pixel is decoded."""
    several = ""
    if (format := format_of(data)) == "JXL" and format in readable():
        width, height, animated = jxl_header(data)
        several = "animated" if animated else ""
    else:
        with Image.open(io.BytesIO(data), formats=readable()) as file:
            format, (width, height), frames = (
                str(file.format),
                file.size,
                getattr(file, "n_frames", 1),
            )
        if (
            format == "MPO"
        ):  # a phone's JPEG with a depth map or a second view behind it; the first picture counts
            format = "JPEG"
        elif frames > 1:
            several = (
                f"{frames} pictures in one file"
                if format == "HEIF"
                else f"animated ({frames} frames)"
            )
    if width * height > MAX_PIXELS:
        raise Refused(
            f"{width}×{height} pixels; at most {MAX_PIXELS // 1_000_000} million are read"
        )
    if min(width, height) < MIN_SIDE:
        raise Refused(f"{width}×{height} pixels; the shorter side needs {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(
            f"{width}×{height} pixels; cut it to at most {MAX_ASPECT:g} times as long as wide"
        )
    if several:
        raise Refused(f"{several}; save the one that you want")
    return format
