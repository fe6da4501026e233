"""Detectors as YOLO exports them: `model.onnx` whose metadata holds `names` and `imgsz`.

Input [N, 3, S, S] float32, RGB, 0–1, the picture stretched to S × S; output [N, 4 + C, A]: centre x
and y, width and height in pixels of the input, then the scores of C classes. Boxes of a class that
overlap by more than 0.5 (IoU) are one box: at the usual 0.7 one head in twelve of the toon base's
own pictures counts twice, and two heads hardly share half. Of the classes two are looked for, a
person and a head; a file may know one of them alone.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate.observers.onnx import LONGEST_SIDE, Network, chunks
from onmodel.hashing import hash_json

PARTS = ("person", "head")
SURE = 0.3  # score from which something counts as seen
SAME = 0.5  # IoU
FIELD = "observers.detectors"


class Detector:
    """What one file detects. `parts`: which of PARTS it knows."""

    def __init__(self, folder: Path, threads: int) -> None:
        path = folder / "model.onnx"
        self._model = Network(FIELD, path, threads)
        facts = self._model.metadata
        try:
            names = {
                int(index): str(name) for index, name in ast.literal_eval(facts["names"]).items()
            }
            height, width = (int(side) for side in ast.literal_eval(facts["imgsz"]))
            if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
                raise ValueError(f"a picture of {width} × {height}")
            if sorted(names) != list(range(len(names))):
                raise ValueError("classes are not numbered from 0")
        except (
            KeyError,
            AttributeError,
            ArithmeticError,
            ValueError,
            TypeError,
            SyntaxError,
            MemoryError,
            RecursionError,
        ) as error:
            raise InputError(
                FIELD, path, "its metadata has no names and imgsz; export it as YOLO does"
            ) from error
        self._size, self._rows = (width, height), 4 + len(names)
        self._classes = {name: index for index, name in names.items()}
        self.parts = [part for part in PARTS if part in self._classes]
        if not self.parts:
            raise InputError(
                FIELD, path, f"detects {', '.join(self._classes)}; needed is {' or '.join(PARTS)}"
            )
        if len(self._model.answer) != 3 or self._model.answer[1] not in (None, 4 + len(names)):
            remedy = (
                f"its output is {self._model.answer}; export it without NMS, as [N,"
                f" {4 + len(names)}, boxes]"
            )
            raise InputError(FIELD, path, remedy)
        self.hashes = self._model.hashes

    def __call__(self, images: Sequence[Image.Image]) -> dict[str, list[np.ndarray]]:
        """Part → for each RGB picture the boxes [K, 5], surest first: centre x, centre y, width,
        height in shares of the picture, score."""
        found: dict[str, list[np.ndarray]] = {part: [] for part in self.parts}
        scale = np.array([*self._size, *self._size], dtype=np.float32)
        for chunk in chunks(images):
            batch = np.stack([self._prepare(image) for image in chunk])
            found_here = self._model(batch)
            if found_here.shape[1] % self._rows:
                remedy = (
                    f"answers {found_here.shape[1]} numbers, which are no boxes of {self._rows}"
                    " each"
                )
                raise InputError(FIELD, self._model.path, remedy)
            for rows in found_here.reshape(len(chunk), self._rows, -1):
                for part in self.parts:
                    scores = rows[4 + self._classes[part]]
                    kept = np.flatnonzero(scores >= SURE)
                    boxes = np.concatenate([rows[:4, kept].T / scale, scores[kept, None]], axis=1)
                    found[part].append(_apart(boxes[np.argsort(-boxes[:, 4], kind="stable")]))
        return found

    def _prepare(self, image: Image.Image) -> np.ndarray:
        pixels = (
            np.asarray(image.resize(self._size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
        )
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Detectors:
    """Several files as one: a part is read from the first that knows it. `parts`: those of PARTS
    that any knows."""

    def __init__(self, folders: Sequence[Path], threads: int) -> None:
        self._all = [Detector(folder, threads) for folder in folders]
        self.parts = frozenset(part for one in self._all for part in one.parts)
        self.sha256 = hash_json([sha256 for one in self._all for sha256 in one.hashes])

    def __call__(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """The surest box of each of PARTS [N, 2, 5] as Detector gives it, zeros where there is
        none, and how many heads are seen [N]; of RGB pictures of any size."""
        heads = np.zeros(len(images), dtype=np.float32)
        found = np.zeros((len(images), len(PARTS), 5), dtype=np.float32)
        known: set[str] = set()
        for detector in self._all:
            for part, boxes in detector(images).items():
                if part not in known:
                    for i, rows in enumerate(boxes):
                        found[i, PARTS.index(part)] = rows[0] if len(rows) else 0
                    if part == "head":
                        heads[:] = [len(rows) for rows in boxes]
            known |= set(detector.parts)
        return found, heads


def _apart(boxes_k5: np.ndarray) -> np.ndarray:
    """Boxes, surest first, without those that mean the same as a surer one (non-maximum
    suppression)."""
    low, high = boxes_k5[:, :2] - boxes_k5[:, 2:4] / 2, boxes_k5[:, :2] + boxes_k5[:, 2:4] / 2
    area = boxes_k5[:, 2] * boxes_k5[:, 3]
    kept: list[int] = []
    for i in range(len(boxes_k5)):
        sides = np.clip(np.minimum(high[kept], high[i]) - np.maximum(low[kept], low[i]), 0, None)
        shared = sides.prod(-1)
        if not (shared > SAME * (area[kept] + area[i] - shared)).any():
            kept.append(i)
    return boxes_k5[kept]
