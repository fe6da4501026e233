"""Write the kept pictures of a data set as folders that trainers read: original bytes, current
captions."""

import os
import tempfile
from collections import Counter
from pathlib import Path

from onmodel.curate.provenance import NAME, model_of
from onmodel.curate.workshop import Workshop
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
        if piece.path.suffix.lower() not in KOHYA_READS
    ]


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
    counts: Counter[str] = Counter()
    sources = {}
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as temporary:
        folder = Path(temporary) / "out"
        with events.task("write pictures", len(workshop.kept)) as task:
            for piece in workshop.kept:
                task.advance()
                subset = (
                    f"{workshop.repeats.get(piece.subset, 1)}_{piece.subset}"
                    if kohya
                    else piece.subset
                )
                name = piece.name.removeprefix(f"{piece.subset}/")
                suffix = piece.path.suffix and f".{writable(piece.path.suffix[1:])}"
                target = inside(folder, f"{subset}/{name}{suffix}", "picture")
                caption = target.with_name(f"{name}.txt")
                if target.exists() or caption.exists():
                    raise InputError(
                        "picture", piece.name, "another has this name in other case; exclude one"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    data = piece.path.read_bytes()
                except OSError as error:
                    raise StateError(
                        piece.path, f"cannot be read any more ({error.strerror})"
                    ) from error
                if sha256_bytes(data) != piece.sha256:
                    raise StateError(
                        piece.path, "was changed since it was imported; import it again"
                    )
                target.write_bytes(data)
                lines = [", ".join(piece.words), piece.sentence]
                caption.write_text("\n".join(filter(None, lines)) + "\n", encoding="utf-8")
                sources[f"{subset}/{target.name}"] = {
                    "sha256": piece.sha256,
                    "origin": piece.origin,
                    "rights": piece.rights,
                    "paper": piece.paper,
                    "profile": piece.profile,
                    "made": dict(piece.made),
                    "tags": {said.tag: said.by for said in piece.tags},
                    "told": piece.told,
                    "kept": piece.decided or "audit",
                }
                counts[subset] += 1
        if not counts:
            raise InputError("work", workshop.folder, "no picture is kept")
        used = {model_of(piece.origin) for piece in workshop.kept}
        models = {sha256: lineage for sha256, lineage in workshop.models.items() if sha256 in used}
        write_json(folder / NAME, {"pictures": sources, "models": models})
        os.replace(folder, out)
    return dict(counts)
