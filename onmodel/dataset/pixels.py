"""The pixels of a picture file: rotated as EXIF says, in sRGB, on an opaque background.

Originals keep their bytes. Training, observers and pages all read pixels through this file.
"""

import hashlib
import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError

from onmodel.dataset.formats import DECODER_ERRORS, readable, unreadable, upright
from onmodel.errors import StateError

WHITE = "#ffffff"
UNREADABLE = "unreadable"
SIDE = 96  # pixels of the small version by which pictures are compared
STRIP = 256  # rows that are hashed at a time
# What a profile says its colours are → the mode in which Pillow holds such pixels.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def open_picture(path: Path, background: str = WHITE) -> Image.Image:
    """A picture file as it is shown, RGB. Raises StateError naming the file when it cannot be
    read."""
    return as_shown(open_upright(path), background)


def open_upright(path: Path) -> Image.Image:
    """A picture file turned upright, else as it is. Raises StateError naming the file when it
    cannot be read."""
    try:
        with Image.open(path, formats=readable()) as file:
            return upright(file)
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            raise StateError(path, f"is {unreadable(file.read(64))}") from error
    except DECODER_ERRORS as error:
        told = (
            f"cannot be read as a picture ({error}); remove the file and run the same command again"
        )
        raise StateError(path, told) from error


def as_shown(image: Image.Image, background: str = WHITE) -> Image.Image:
    """An upright picture in sRGB, RGB; what shows through where it is transparent is `background`,
    #rrggbb."""
    colours, alpha = in_srgb(image)
    if alpha is None:
        return colours
    return Image.composite(colours, Image.new("RGB", image.size, background), alpha)


def in_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours (RGB, sRGB) and the opacity (L, None without transparency) of an upright
    picture."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    return _by_profile(image) or image.convert("RGBA" if alpha else "RGB").convert("RGB"), alpha


def open_mask(path: Path, alpha: bool = False) -> Image.Image:
    """A mask file, upright, L; white counts. With `alpha`, the opacity of a picture file. Raises
    StateError naming the file when it cannot be read."""
    image = open_upright(path)
    if alpha:
        return image.convert("RGBA").getchannel("A")
    mask = image.convert("RGB").getchannel("R")  # as kohya's tools and diffusion-pipe read it
    if image.has_transparency_data:  # a shape that was painted on a transparent layer
        mask = ImageChops.multiply(mask, image.convert("RGBA").getchannel("A"))
    return mask


def small(image: Image.Image, background: str = WHITE) -> Image.Image:
    """An upright picture as it is shown, SIDE × SIDE, whatever its shape."""
    return shrunk(as_shown(image, background))


def shrunk(shown: Image.Image) -> Image.Image:
    """An RGB picture at SIDE × SIDE, whatever its shape."""
    return shown.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)


def pixels_sha256(shown: Image.Image) -> str:
    """SHA-256 of an RGB picture's size and pixels, whatever file they came from."""
    digest = hashlib.sha256(f"{shown.width}x{shown.height}".encode())
    for top in range(0, shown.height, STRIP):
        strip = (0, top, shown.width, min(top + STRIP, shown.height))
        digest.update(shown.crop(strip).tobytes())
    return digest.hexdigest()


def profile_of(image: Image.Image) -> str:
    """The name of the colour profile that a picture carries: "" without one; one that cannot be
    read counts as sRGB."""
    data = image.info.get("icc_profile")
    if not data:
        return ""
    try:
        return (
            ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
            or "unnamed"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return UNREADABLE


def _by_profile(image: Image.Image) -> Image.Image | None:
    """The colours, RGB, of a picture with a profile: relative colorimetric with black point
    compensation.

    None without a profile, and for one that is broken or speaks of other channels than the picture
    has.
    """
    data = image.info.get("icc_profile")
    if not data:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        mode = _MODES.get(profile.profile.xcolor_space.strip())
        grey, printed = image.mode in ("1", "L", "LA"), image.mode == "CMYK"
        if mode is None or (mode == "L") > grey or (mode == "CMYK") != printed:
            return None
        colours = image.convert("RGBA").convert("RGB") if mode == "RGB" else image.convert(mode)
        return ImageCms.profileToProfile(
            colours,
            profile,
            _srgb(),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
