"""Classifiers in the format of the field's anime classifiers: `model.onnx` and `meta.json`
{"labels": […]}.

Input [N, 3, S, S] float32, RGB, (x / 255 − 0.5) / 0.5, the picture stretched to S × S (384 where
the file leaves S open); output [N, labels], probabilities. What is asked of one is a single number:
the expected value of its labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate.observers.onnx import Network, batches_of, hashes, rows_of
from onmodel.hashing import hash_json
from onmodel.reading import read_json_of_others

OPEN_SIDE = 384  # where the file leaves the side open
CORRUPTION = {"normal": 0.0, "corrupted": 1.0}
AESTHETIC = {
    "worst": 0.0,
    "low": 1 / 6,
    "normal": 2 / 6,
    "good": 3 / 6,
    "great": 4 / 6,
    "best": 5 / 6,
    "masterpiece": 1.0,
}


class Classifier:
    """The expected value, in 0…1, of what a classifier says of a picture; `values`: label →
    value."""

    def __init__(self, field: str, folder: Path, values: Mapping[str, float], threads: int) -> None:
        path, table = folder / "model.onnx", folder / "meta.json"
        self._field, self._path = field, path
        self._model = Network(field, path, threads)
        self._side = self._model.side(2, OPEN_SIDE)
        try:
            labels = [str(label) for label in read_json_of_others(table, field)["labels"]]
        except (KeyError, TypeError) as error:
            raise InputError(field, table, 'must be JSON with "labels"') from error
        if sorted(labels) != sorted(values):
            raise InputError(
                field, table, f"its labels are {', '.join(labels)}; needed: {', '.join(values)}"
            )
        self._values = np.array([values[label] for label in labels], dtype=np.float32)
        self.sha256 = hash_json([*self._model.hashes, *hashes(field, [table])])

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Expected values [N] of RGB pictures of any size. Raises InputError when the file gives no
        probabilities."""
        found = rows_of(self._model, batches_of(images, self._prepare))
        if found.shape[1] != len(self._values) or np.abs(found.sum(1) - 1).max() > 1e-2:
            raise InputError(
                self._field,
                self._path,
                f"must give {len(self._values)} probabilities that add up to 1",
            )
        return np.asarray(found @ self._values)

    def _prepare(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(
            image.resize((self._side, self._side), Image.Resampling.BILINEAR), dtype=np.float32
        )
        return np.ascontiguousarray((pixels / 127.5 - 1).transpose(2, 0, 1))
