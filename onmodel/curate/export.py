"""Write the kept pictures of a data set as folders that trainers read: original bytes, current
captions, and masks in `masks/`. A picture that is turned or cropped is written as a PNG in sRGB."""

import io
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from onmodel.curate.crop import crop
from onmodel.curate.masks import FOLDER as MASKS
from onmodel.curate.masks import mask_file, mask_png, masks_beside
from onmodel.curate.provenance import NAME, model_of
from onmodel.curate.workshop import Piece, Workshop
from onmodel.dataset.pixels import in_srgb, open_upright
from onmodel.errors import InputError, StateError
from onmodel.events import Events
from onmodel.hashing import TEMPORARY_PREFIX, sha256_bytes, write_json
from onmodel.paths import inside, writable

KOHYA_READS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
)  # sd-scripts' IMAGE_EXTENSIONS without further packages


def unread_by_kohya(workshop: Workshop) -> list[str]:
    """Kept files that sd-scripts leaves out without a word, by their endings."""
    return [
        f"{piece.name}{piece.path.suffix}"
        for piece in workshop.kept
        if suffix_of(piece).lower() not in KOHYA_READS
    ]


def suffix_of(piece: Piece) -> str:
    """The ending of the file that a picture is written to."""
    if piece.turn or piece.box:
        return ".png"
    return piece.path.suffix and f".{writable(piece.path.suffix[1:])}"


@dataclass(frozen=True)
class _Written:
    """A picture as it was written: its file (`folder/name`) and the SHA-256 of its bytes."""

    piece: Piece
    file: str
    sha256: str


def export(workshop: Workshop, out: Path, kohya: bool, events: Events) -> dict[str, int]:
    """Write a folder per subset (`10_name` with its repeats for sd-scripts), and provenance.json:
    where each picture comes from, by what right, who said each tag and the sentence, which models
    made it. Returns folder → pictures.

    Whole or not at all. Raises InputError when `out` exists, StateError when an original is not
    what was read.
    """
    if out.exists():
        raise InputError("out", out, "exists already; choose another name, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = masks_beside(workshop.kept)
    written: list[_Written] = []
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as temporary:
        folder = Path(temporary) / "out"
        with events.task("write pictures", len(workshop.kept)) as task:
            for piece in workshop.kept:
                task.advance()
                repeats = workshop.repeats.get(piece.subset, 1)
                subset = f"{repeats}_{piece.subset}" if kohya else piece.subset
                mask = mask_file(workshop.folder, piece, beside)
                written.append(_write(piece, mask, folder, subset))
        if not written:
            raise InputError("work", workshop.folder, "no picture is kept")
        used = {model_of(row.piece.origin) for row in written}
        models = {sha256: lineage for sha256, lineage in workshop.models.items() if sha256 in used}
        sources = {row.file: _provenance(row) for row in written}
        write_json(folder / NAME, {"pictures": sources, "models": models})
        os.replace(folder, out)
    return dict(Counter(row.file.rpartition("/")[0] for row in written))


def _write(piece: Piece, mask: Path | None, folder: Path, subset: str) -> _Written:
    """Write a picture, its caption and its mask."""
    name = piece.name.removeprefix(f"{piece.subset}/")
    target = inside(folder, f"{subset}/{name}{suffix_of(piece)}", "picture")
    caption = target.with_name(f"{name}.txt")
    if target.exists() or caption.exists():
        raise InputError("picture", piece.name, "another has this name in other case; exclude one")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = _bytes(piece)
    target.write_bytes(data)
    lines = [", ".join(piece.words), piece.sentence]
    caption.write_text("\n".join(filter(None, lines)) + "\n", encoding="utf-8")
    if mask:
        own = piece.turn or piece.box or piece.mask
        masked = target.parent / MASKS / f"{name}{'.png' if own else mask.suffix}"
        masked.parent.mkdir(exist_ok=True)
        masked.write_bytes(mask_png(mask, piece) if own else mask.read_bytes())
    return _Written(piece, f"{subset}/{target.name}", sha256_bytes(data))


def _bytes(piece: Piece) -> bytes:
    """The original's bytes; of a picture that is turned or cropped a PNG. Raises StateError when
    the original is not what was imported."""
    try:
        data = piece.path.read_bytes()
    except OSError as error:
        raise StateError(piece.path, f"cannot be read any more ({error.strerror})") from error
    if sha256_bytes(data) != piece.sha256:
        raise StateError(piece.path, "was changed since it was imported; import it again")
    if not piece.turn and not piece.box:
        return data
    colours, alpha = in_srgb(open_upright(piece.path))
    if alpha is not None:
        colours.putalpha(alpha)
    buffer = io.BytesIO()
    crop(colours, piece.turn, piece.box).save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()


def _provenance(row: _Written) -> dict[str, object]:
    """A picture's row of provenance.json."""
    piece = row.piece
    found: dict[str, object] = {
        "sha256": row.sha256,
        "origin": piece.origin,
        "rights": piece.rights,
        "paper": piece.paper,
        "profile": piece.profile,
        "made": dict(piece.made),
        "tags": {said.tag: said.by for said in piece.tags},
        "told": piece.told,
        "kept": piece.decided or "audit",
    }
    if row.sha256 != piece.sha256:
        part = {"sha256": piece.sha256, "turn": piece.turn, "box": list(piece.box)}
        found |= {"profile": "", "cropped_from": part}
    return found
