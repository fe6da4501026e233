"""A tagger in WD v3 format: `model.onnx` and `selected_tags.csv` (tag_id, name, category, count) in
one folder.

Input [N, S, S, 3] float32, BGR, 0–255, the picture padded with white to a square and resized
bicubically; output [N, T] probabilities, already through the sigmoid. S and the tensors' names are
read from the file.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate.observers.onnx import Network, batches_of, hashes, rows_of
from onmodel.hashing import hash_json
from onmodel.reading import read_text
from onmodel.text import shown

FIELD = "observers.tagger"
RATING, CHARACTER = "9", "4"  # category of selected_tags.csv; 0 is general


class Tagger:
    """Tag probabilities of pictures. `tags` name the columns, with spaces; ratings are left out.
    `characters` are those that name one."""

    def __init__(self, folder: Path, threads: int) -> None:
        table = folder / "selected_tags.csv"
        reader = csv.DictReader(io.StringIO(read_text(table, FIELD), newline=""))
        try:
            rows = [(str(row["name"] or ""), row["category"].split(".")[0]) for row in reader]
        except (csv.Error, KeyError, AttributeError) as error:
            raise InputError(
                FIELD, table, "must be a table with the columns name and category"
            ) from error
        if odd := next((row for row in rows if not row[1].isdecimal()), None):
            raise InputError(
                FIELD,
                table,
                f"has the category {shown(odd[1], 20)!r} for {shown(odd[0], 40)}; write a number",
            )
        self._model = Network(FIELD, folder / "model.onnx", threads)
        self._side = self._model.side(1)
        if not rows or self._model.answer[-1:] not in ([], [None], [len(rows)]):
            raise InputError(
                FIELD,
                table,
                f"has {len(rows)} tags; the model gives {self._model.answer[-1]} outputs",
            )
        self._kept = np.array([category != RATING for _, category in rows])
        self.tags = [name.replace("_", " ") for name, category in rows if category != RATING]
        self.characters = {name.replace("_", " ") for name, kind in rows if kind == CHARACTER}
        self._columns = {tag: i for i, tag in enumerate(self.tags)}
        self.sha256 = hash_json([*self._model.hashes, *hashes(FIELD, [table])])

    def columns(self, tags: Iterable[str]) -> dict[str, int]:
        """Tag → column, for the tags that this tagger knows."""
        return {tag: self._columns[tag] for tag in tags if tag in self._columns}

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities [N, T] of RGB pictures of any size."""
        found = rows_of(self._model, batches_of(images, self._prepare))
        if found.shape[1] != len(self._kept):
            raise InputError(
                FIELD, f"{found.shape[1]} outputs", f"the table has {len(self._kept)} tags"
            )
        return found[:, self._kept]

    def _prepare(self, image: Image.Image) -> np.ndarray:
        side = max(image.size)
        square = Image.new("RGB", (side, side), (255, 255, 255))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        pixels = np.asarray(
            square.resize((self._side, self._side), Image.Resampling.BICUBIC), dtype=np.float32
        )
        return np.ascontiguousarray(pixels[:, :, ::-1])
