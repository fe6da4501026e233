"""Letters in pictures: watermarks, signatures, addresses; but also a shop sign or a speech bubble,
which a person must tell from those. RapidOCR reads them (PP-OCRv6 small of PaddleOCR; its wheel
brings it, nothing is downloaded).

What it seldom reads: letters of less than 9 pixels, and those that differ little from what they lie
on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onmodel.curate.crop import Cropped
from onmodel.curate.findings import AuditFinding, Fix
from onmodel.errors import StateError
from onmodel.evaluate.observers.onnx import silence_onnxruntime
from onmodel.events import Task
from onmodel.hashing import hash_json, read_json, write_json

if TYPE_CHECKING:
    from rapidocr import RapidOCR

CHUNK = 64
VERSION = 2  # raised when the same picture gives another text
SIDE = 640  # pixels that the shorter side has at least when letters are looked for
FAINT, BOX = (
    0.2,
    0.3,
)  # probability of a letter in a pixel and in a box, below RapidOCR's own: watermarks are faint
SURE = 0.75  # mean probability of a text's letters from which it is one
LETTERS = 3  # of a text; eyes and ornaments are read as one or two


def load_reader(threads: int) -> "RapidOCR | None":
    """What reads letters, on the CPU; None where the extra `lettering` is not installed."""
    silence_onnxruntime()
    try:
        from rapidocr import RapidOCR
    except ModuleNotFoundError:
        return None
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Det.limit_side_len": SIDE,
            "Global.text_score": SURE,
            "Det.thresh": FAINT,
            "Det.box_thresh": BOX,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def read(reader: "RapidOCR", image: Image.Image) -> list[tuple[str, float]]:
    """Texts of an RGB picture that are surely letters, with their probability, from top to
    bottom."""
    found: Any = reader(np.asarray(image)[..., ::-1])  # a RapidOCROutput, when it finds and reads
    rows = zip(found.txts or (), found.scores or (), strict=True)
    return [
        (text, round(float(score), 3))
        for text, score in rows
        if sum(map(str.isalnum, text)) >= LETTERS
    ]


def read_all(
    reader: "RapidOCR",
    pictures: Sequence[Cropped],
    hashes: Sequence[str],
    cache: Path,
    task: Task,
) -> list[list[tuple[str, float]]]:
    """What `read` finds in each picture; kept in `cache`, in pieces. `task` moves by pictures.
    Raises StateError."""
    found: list[list[tuple[str, float]]] = []
    for start in range(0, len(pictures), CHUNK):
        part = slice(start, start + CHUNK)
        key = ["lettering", VERSION, list(hashes[part])]
        key.append([picture.background for picture in pictures[part]])
        path = cache / f"{hash_json(key)}.json"
        if not path.exists():
            write_json(path, [read(reader, picture.open()) for picture in pictures[part]])
        try:
            for row in read_json(path):
                found.append([(str(text), float(score)) for text, score in row])
        except (TypeError, ValueError) as error:
            raise StateError(
                path, f"is damaged; remove it and run the same command again ({error})"
            ) from error
        task.advance(len(pictures[part]))
    return found


def audit_lettering(
    names: Sequence[str], texts: Sequence[Sequence[tuple[str, float]]]
) -> list[AuditFinding]:
    """One finding for each picture with letters."""
    found = []
    for name, rows in zip(names, texts, strict=True):
        if rows:
            evidence = "reads " + ", ".join(f"{text!r} ({score:.2f})" for text, score in rows)
            found.append(
                AuditFinding("lettering", "warning", name, "letters", evidence, Fix(aside=True))
            )
    return found
