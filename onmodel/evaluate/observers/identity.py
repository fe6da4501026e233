"""An identity model in CCIP format: is the same character drawn in two pictures?

`model_feat.onnx` maps a picture (RGB / 255, CLIP mean and deviation, plainly resized) to a feature;
`model_metrics.onnx` compares features: 0 is the same, 1 nothing alike. CCIP's own is clip((1 −
cosine) / 2, 0, 1), the toon world's the share of a design's traits, seen in both pictures, that are
not the same. The threshold in `metrics.json` is not used: the references' own agreement says what
is enough.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate.observers.onnx import Network, batches_of, rows_of
from onmodel.hashing import hash_json

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
ROWS = 256
FIELD = "observers.identity"


class Identity:
    """Identity features of pictures."""

    def __init__(self, folder: Path, threads: int) -> None:
        path = folder / "model_feat.onnx"
        self._model = Network(FIELD, path, threads)
        self._side = self._model.side(2)
        metrics = folder / "model_metrics.onnx"
        self._metrics = Network(FIELD, metrics, threads)
        self.sha256 = hash_json([*self._model.hashes, *self._metrics.hashes])

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Features [N, F] of RGB pictures of any size."""
        return rows_of(self._model, batches_of(images, self._prepare))

    def differences(self, a_nf: np.ndarray, b_mf: np.ndarray) -> np.ndarray:
        """How much pictures differ, [N, M] in 0…1, from their features."""
        rows = [np.empty((0, len(b_mf)), np.float32)]
        for start in range(0, len(a_nf), ROWS):  # the file compares everything with everything
            part = a_nf[start : start + ROWS]
            found = self._metrics(np.concatenate([part, b_mf]))
            if found.shape[1] != len(found):
                remedy = (
                    f"answers {found.shape[1]} numbers to each of {len(found)} features; it must"
                    " compare all"
                )
                raise InputError(FIELD, self._metrics.path, remedy)
            rows.append(found[: len(part), len(part) :])
        return np.concatenate(rows)

    def _prepare(self, image: Image.Image) -> np.ndarray:
        pixels = (
            np.asarray(
                image.resize((self._side, self._side), Image.Resampling.BILINEAR), dtype=np.float32
            )
            / 255
        )
        return np.ascontiguousarray(((pixels - CLIP_MEAN) / CLIP_DEVIATION).transpose(2, 0, 1))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (last axis) scaled to length 1; a row of zeros stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
