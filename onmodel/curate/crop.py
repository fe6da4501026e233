"""How a picture of a data set is turned and cropped. The file keeps its bytes; every reader of its
pixels turns and crops what it has decoded.

`turn` is 0, 90, 180 or 270 degrees clockwise, after the rotation that EXIF says. `box` is left,
top, right and bottom in pixels of the turned picture, () for the whole of it.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from onmodel.dataset.decoding import MAX_ASPECT, MIN_SIDE
from onmodel.dataset.pixels import WHITE, open_picture
from onmodel.errors import InputError

Box = tuple[int, ...]
TURNS = (0, 90, 180, 270)
_TURNED = {
    90: Image.Transpose.ROTATE_270,  # Pillow counts counter-clockwise
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Cropped:
    """A picture file as a data set shows it. `background` is the colour behind transparent pixels,
    "" for white."""

    path: Path
    background: str = ""
    turn: int = 0
    box: Box = ()

    def open(self) -> Image.Image:
        """The picture, RGB. Raises StateError naming the file when it cannot be read."""
        return crop(open_picture(self.path, self.background or WHITE), self.turn, self.box)


def crop(image: Image.Image, turn: int, box: Box) -> Image.Image:
    """An upright picture of any mode, turned and cropped. `box` is in pixels of the whole file; a
    smaller copy of it must be scaled by the caller."""
    if turn:
        image = image.transpose(_TURNED[turn])
    return image.crop((box[0], box[1], box[2], box[3])) if box else image


def uncrop(
    part: Image.Image, whole: tuple[int, int], turn: int, box: Box, under: Image.Image
) -> Image.Image:
    """A picture of the size `whole` (upright, not turned): `part`, which was turned and cropped, on
    `under` of that size. The inverse of crop()."""
    turned = crop(under, turn, ())
    left, top, right, bottom = box or (0, 0, *turned.size)
    turned = turned.copy()
    turned.paste(part.resize((right - left, bottom - top)), (left, top))
    back = crop(turned, -turn % 360, ())
    assert back.size == whole
    return back


def turned_size(width: int, height: int, turn: int) -> tuple[int, int]:
    """Width and height of a picture after it was turned."""
    return (height, width) if turn in (90, 270) else (width, height)


def cropped_size(width: int, height: int, turn: int, box: Box) -> tuple[int, int]:
    """Width and height of a picture after it was turned and cropped."""
    return (box[2] - box[0], box[3] - box[1]) if box else turned_size(width, height, turn)


def turned_further(width: int, height: int, turn: int, box: Box, degrees: int) -> tuple[int, Box]:
    """Turn and box of the same part of a picture, turned by 90, 180 or 270 degrees more."""
    width, height = turned_size(width, height, turn)
    for _ in range(degrees // 90):
        if box:
            left, top, right, bottom = box
            box = (height - bottom, left, height - top, right)
        width, height = height, width
    return (turn + degrees) % 360, box


def checked_crop(width: int, height: int, turn: int, box: Box) -> Box:
    """The box, () where it is the whole picture. Raises InputError for a turn or a box that a
    picture of this size cannot have, and for a part that no training takes."""
    if turn not in TURNS:
        raise InputError("turn", turn, "use 0, 90, 180 or 270 degrees")
    if not box:
        return ()
    wide, high = turned_size(width, height, turn)
    remedy = f"give left, top, right and bottom within {wide}×{high} pixels"
    if len(box) != 4:
        raise InputError("box", list(box), remedy)
    left, top, right, bottom = box
    if not (0 <= left < right <= wide and 0 <= top < bottom <= high):
        raise InputError("box", list(box), remedy)
    short, long = sorted((right - left, bottom - top))
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        remedy = (
            f"the shorter side needs {MIN_SIDE} pixels and at least 1/{MAX_ASPECT:g} of the longer"
        )
        raise InputError("box", f"{right - left}×{bottom - top}", remedy)
    return () if box == (0, 0, wide, high) else box
