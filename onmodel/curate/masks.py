"""Masks of the pictures of a data set: white is learnt, black is not.

A decision of the journal names one: the SHA-256 of WORK/masks/SHA256.png, or NONE. Without a
decision, the mask that lies beside the picture counts, by every convention that a folder has. A
mask has the size of the upright file, so it stays right when the picture is cropped anew.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from onmodel.curate.crop import crop, uncrop
from onmodel.curate.listing import list_folder, split_masks
from onmodel.curate.workshop import Decision, Piece, open_workshop
from onmodel.dataset.pixels import open_mask
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import sha256_bytes, write_atomic
from onmodel.paths import inside

if TYPE_CHECKING:
    from onmodel.evaluate.observers.detector import Detectors

NONE = "none"  # a picture without a mask, though one lies beside it
FOLDER = "masks"
LEARNT = 255
CAPTION = ".txt"
MaskSource = Literal["alpha", "person", "head"]
Masks = dict[Path, Path]  # picture → the mask beside it


def masks_beside(pieces: Iterable[Piece]) -> Masks:
    """The masks that lie beside the pictures."""
    found: Masks = {}
    for folder in {piece.path.parent for piece in pieces}:
        try:
            listing = list_folder(folder)
        except InputError:  # it was moved away; its pictures cannot be read either
            continue
        captioned = (path.stem for path in listing.files if path.suffix.lower() == CAPTION)
        pictures, masks, _ = split_masks(listing, captioned)
        found |= {path: masks[path.stem] for path in pictures if path.stem in masks}
    return found


def mask_file(work: Path, piece: Piece, beside: Masks) -> Path | None:
    """The file of a picture's mask; None without one."""
    if not piece.mask:
        return beside.get(piece.path)
    return None if piece.mask == NONE else inside(work / FOLDER, f"{piece.mask}.png", "mask")


def whole_mask(path: Path, piece: Piece) -> Image.Image:
    """A mask file, L, at the size of the picture's upright file. Raises StateError when it cannot
    be read."""
    mask = open_mask(path)
    size = (piece.width, piece.height)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def shown_mask(path: Path, piece: Piece) -> Image.Image:
    """A mask file, L, turned and cropped as its picture is."""
    return crop(whole_mask(path, piece), piece.turn, piece.box)


def keep_mask(work: Path, piece: Piece, mask: Image.Image, known: Path | None, by: str) -> Decision:
    """Write a mask of what is shown of a picture (L, any size) into the data set; the decision
    that makes it hold. What is cropped away keeps the values of `known`, the mask until now."""
    size = (piece.width, piece.height)
    under = whole_mask(known, piece) if known else Image.new("L", size, LEARNT)
    whole = uncrop(mask, size, piece.turn, piece.box, under)
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    data = buffer.getvalue()
    sha256 = sha256_bytes(data)
    path = work / FOLDER / f"{sha256}.png"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, data)
    return Decision(0, "mask", by, piece.name, mask=sha256)


def make_masks(
    work: Path,
    names: Sequence[str],
    source: MaskSource,
    detectors: "Detectors | None",
    events: Events,
) -> int:
    """Give pictures that have no mask one, as one step: their own transparency, or the surest box
    of a person or head that the detectors see. Returns how many got one; a picture that shows none
    of it gets none."""
    workshop = open_workshop(work)
    beside = masks_beside(workshop.pieces.values())
    pieces = [workshop.pieces[name] for name in names if name in workshop.pieces]
    decisions = []
    with events.task("make masks", len(pieces)) as task:
        for piece in pieces:
            task.advance()
            if mask_file(work, piece, beside):
                continue
            mask = _alpha(piece) if source == "alpha" else _box(piece, source, detectors)
            if mask is not None:
                by = "alpha" if source == "alpha" else f"detector: {source}"
                decisions.append(keep_mask(work, piece, mask, None, by))
    if decisions:
        workshop.decide(decisions)
    return len(decisions)


def _alpha(piece: Piece) -> Image.Image | None:
    """The opacity of what is shown; None where nothing is transparent."""
    if not piece.paper:
        return None
    mask = crop(open_mask(piece.path, alpha=True), piece.turn, piece.box)
    return None if mask.getextrema() == (LEARNT, LEARNT) else mask


def _box(piece: Piece, part: str, detectors: "Detectors | None") -> Image.Image | None:
    """White in the surest box of a part, black elsewhere; None where it is not seen."""
    from onmodel.evaluate.observers.detector import PARTS

    if detectors is None:
        raise InputError("detector", "none", "name a folder of a detector, or hf://owner/name")
    image = piece.cropped.open()
    found, _ = detectors([image])
    x, y, width, height, score = (float(value) for value in found[0, PARTS.index(part)])
    if not score:
        return None
    wide, high = image.size
    mask = Image.new("L", image.size, 0)
    left, top = max(0, round((x - width / 2) * wide)), max(0, round((y - height / 2) * high))
    right, bottom = round((x + width / 2) * wide), round((y + height / 2) * high)
    mask.paste(LEARNT, (left, top, min(right, wide), min(bottom, high)))
    return mask


def mask_png(path: Path, piece: Piece) -> bytes:
    """The mask of what is shown, as a PNG. Raises StateError when it cannot be read."""
    buffer = io.BytesIO()
    shown_mask(path, piece).save(buffer, "PNG")
    return buffer.getvalue()
