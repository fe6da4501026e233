"""Observers turn pictures into numbers. The learned ones are loaded from files in the field's own formats.

tagger.py and identity.py read ONNX files, so the toon world's tiny ones and the big public ones go through the same
code; colour.py and layout.py compute from pixels. An observer says what it sees; axes/ decide what that means.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onmodel.errors import InputError

if TYPE_CHECKING:
    from onmodel.evaluate.observers.identity import Identity
    from onmodel.evaluate.observers.tagger import Tagger

TOON_ASSETS = Path(__file__).parents[2] / "toon" / "assets"


@dataclass(frozen=True)
class Observers:
    """The learned observers of an evaluation; None is an observer that nobody gave: its axes are unavailable."""

    tagger: "Tagger | None"
    identity: "Identity | None"

    @property
    def sha256(self) -> dict[str, str]:
        """Name → SHA-256 of the files of each observer that is there."""
        return {name: observer.sha256 for name, observer in (("tagger", self.tagger), ("identity", self.identity))
                if observer is not None}  # fmt: skip


def load_observers(base_name: str, tagger: Path | None, identity: Path | None, threads: int) -> Observers:
    """Load observers from their folders; where none is named the toon base has its own and another base has none.

    Raises InputError naming a file that is missing or wrong.
    """
    from onmodel.evaluate.observers.identity import Identity
    from onmodel.evaluate.observers.tagger import Tagger

    if base_name == "toon":
        tagger, identity = tagger or TOON_ASSETS / "tagger", identity or TOON_ASSETS / "identity"
    return Observers(Tagger(tagger, threads) if tagger else None, Identity(identity, threads) if identity else None)


class Network:
    """An ONNX file with one picture input. `shape` is the input's shape, None where it is left open."""

    def __init__(self, field: str, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError(field, path, "needs onnxruntime: pip install 'onmodel[evaluate]'") from error
        if not path.is_file():
            raise InputError(field, path, "no such file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (onnxruntime.capi.onnxruntime_pybind11_state.Fail,
                onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
                onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph) as error:  # fmt: skip
            raise InputError(field, path, f"is no ONNX model ({str(error)[:120]})") from error
        entry = self._session.get_inputs()[0]
        self._input, self._output = entry.name, self._session.get_outputs()[0].name
        self.shape: list[int | None] = [side if isinstance(side, int) else None for side in entry.shape]

    def side(self, axis: int, field: str, path: Path) -> int:
        """The input's fixed side in pixels. Raises InputError when the file leaves it open."""
        side = self.shape[axis] if len(self.shape) == 4 else None
        if side is None:
            raise InputError(field, path, f"its input is {self.shape}; the picture's side must be written in the file")
        return side

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """One float32 batch [n, …] to the first output [n, D]; a file with a fixed batch is fed one row at a time."""
        if self.shape[0] == 1 and len(batch) > 1:
            return np.concatenate([self(row[None]) for row in batch])
        output: Any = self._session.run([self._output], {self._input: batch})[0]
        return np.asarray(output, dtype=np.float32).reshape(len(batch), -1)


def chunks(images: Sequence[Image.Image], size: int = 16) -> Iterator[Sequence[Image.Image]]:
    """Pieces of at most `size` pictures, so that memory does not grow with their number."""
    return (images[start : start + size] for start in range(0, len(images), size))
