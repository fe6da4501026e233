"""A data set in the making as one page that needs no network: pictures with decisions, subsets,
coverage, findings."""

import base64
import io
from collections import defaultdict
from pathlib import Path

from PIL import Image

from onmodel.character import Character
from onmodel.curate.audit import Audit
from onmodel.curate.coverage import associations
from onmodel.curate.workshop import Workshop
from onmodel.evaluate.observers.colour import SECTORS
from onmodel.hashing import write_atomic
from onmodel.report.pages import environment

THUMB = 80  # pixels of a picture in the grid
QUALITY = 70


def write_dataset_page(out: Path, audit: Audit, workshop: Workshop, character: Character) -> None:
    """Write the page to `out`, and the audit as .json beside it."""
    write_atomic(out, dataset_page(audit, workshop, character).encode())
    write_atomic(out.with_suffix(".json"), (workshop.folder / "audit.json").read_bytes())


def dataset_page(audit: Audit, workshop: Workshop, character: Character) -> str:
    """The page. Excluded pictures are listed with their reasons, not shown."""
    by_picture = defaultdict(list)
    for finding in audit.findings:
        by_picture[finding.picture].append(finding)
    used = dict.fromkeys(piece.subset for piece in audit.pieces)
    weights = {name: workshop.repeats.get(name, 1) for name in used}
    total = sum(weights[piece.subset] for piece in audit.pieces)
    subsets = []
    for name, repeats in weights.items():
        own = [i for i, piece in enumerate(audit.pieces) if piece.subset == name]
        hues = audit.looks.sectors[own].mean(axis=0)
        subsets.append(
            {
                "name": name,
                "pictures": len(own),
                "taught": audit.taught[name],
                "repeats": repeats,
                "share": len(own) * repeats / total,
                "aside": sum(
                    piece.subset == name and bool(piece.aside) for piece in workshop.pieces.values()
                ),
                "hues": [
                    (hue, float(share))
                    for hue, share in zip(SECTORS, hues, strict=True)
                    if share >= 0.01
                ],
                "pieces": [
                    {
                        "piece": audit.pieces[i],
                        "thumb": _thumb(audit, i),
                        "findings": by_picture[audit.pieces[i].name],
                    }
                    for i in own
                ],
            }
        )
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for finding in audit.findings:
        counts[finding.severity, finding.kind] += 1
    return (
        environment()
        .get_template("dataset.html.j2")
        .render(
            name=workshop.folder.name,
            character=character,
            audit=audit,
            workshop=workshop,
            subsets=subsets,
            counts=counts,
            whole=by_picture[""],
            coverage={
                name: row
                for name, row in audit.coverage.items()
                if name in {*character.free, "outfit"}
            },
            associations=associations(audit.shown, audit.vocabulary)[:8],
            aside=[piece for piece in workshop.pieces.values() if piece.aside],
        )
    )


def _thumb(audit: Audit, i: int) -> str:
    """A data URI of a picture's thumbnail in its own shape."""
    image = Image.fromarray(audit.looks.thumbs[i])
    aspect = float(audit.looks.aspect[i])
    image = image.resize(
        (max(1, round(THUMB * min(1, aspect))), max(1, round(THUMB * min(1, 1 / aspect))))
    )
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
