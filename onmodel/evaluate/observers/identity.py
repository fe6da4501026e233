"""An identity model in CCIP format: is the same character drawn in two pictures?

`model_feat.onnx` maps a picture (RGB / 255, CLIP mean and deviation, plainly resized) to a feature that is not of unit
norm; two pictures differ by clip((1 − cosine) / 2, 0, 1). The format's `model_metrics.onnx` computes the same, and the
threshold in its `metrics.json` is not used: the references' own agreement says what is enough.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.evaluate.observers import Network, chunks
from onmodel.hashing import sha256_file

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class Identity:
    """Identity features of pictures."""

    def __init__(self, folder: Path, threads: int) -> None:
        path = folder / "model_feat.onnx"
        self._model = Network("observers.identity", path, threads)
        self._side = self._model.side(2, "observers.identity", path)
        self.sha256 = sha256_file(path)

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Features [N, F] of RGB pictures of any size."""
        return np.concatenate([self._model(np.stack([self._prepare(image) for image in chunk]))
                               for chunk in chunks(images)])  # fmt: skip

    def _prepare(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.resize((self._side, self._side), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        return np.ascontiguousarray(((pixels - CLIP_MEAN) / CLIP_DEVIATION).transpose(2, 0, 1))


def differences(a_nf: np.ndarray, b_mf: np.ndarray) -> np.ndarray:
    """CCIP differences [N, M] between two sets of features: clip((1 − cosine) / 2, 0, 1)."""
    return np.clip((1 - unit(a_nf) @ unit(b_mf).T) / 2, 0, 1)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (last axis) scaled to length 1; a row of zeros stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
