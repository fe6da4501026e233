"""Embeddings of style, copy or content, as the user supplies them: `model.onnx` and
`preprocessor_config.json`.

The second is what transformers writes beside an image encoder: `image_mean`, `image_std`. Input [N,
3, S, S] float32, RGB, (x / 255 − mean) / deviation, the picture stretched to S × S (nothing is cut
away: a picture's margins are part of its layout); the first output [N, …] is the embedding, used at
unit length.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate.observers.identity import unit
from onmodel.evaluate.observers.onnx import Network, batches_of, hashes, rows_of
from onmodel.hashing import hash_json
from onmodel.reading import read_json_of_others


class Embedding:
    """Unit vectors of pictures."""

    def __init__(self, field: str, folder: Path, threads: int) -> None:
        path, table = folder / "model.onnx", folder / "preprocessor_config.json"
        self._model = Network(field, path, threads)
        self._side = self._model.side(2)
        try:
            facts = read_json_of_others(table, field)
            self._mean, self._deviation = (
                np.array(facts[name], dtype=np.float32).reshape(3)
                for name in ("image_mean", "image_std")
            )
            if not (
                np.isfinite(self._mean).all()
                and 0 < self._deviation.min() <= self._deviation.max() < np.inf
            ):
                raise ValueError("not finite, or a deviation that is not positive")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                field, table, "must be JSON with image_mean and image_std, three numbers each"
            ) from error
        self.sha256 = hash_json([*self._model.hashes, *hashes(field, [table])])

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings [N, E] of RGB pictures of any size."""
        return unit(rows_of(self._model, batches_of(images, self._prepare)))

    def _prepare(self, image: Image.Image) -> np.ndarray:
        pixels = (
            np.asarray(
                image.resize((self._side, self._side), Image.Resampling.BICUBIC), dtype=np.float32
            )
            / 255
        )
        return np.ascontiguousarray(((pixels - self._mean) / self._deviation).transpose(2, 0, 1))
