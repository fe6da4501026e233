"""The null LoRA has a real one's shapes and strength, and nothing of its direction."""

from pathlib import Path

import numpy as np
import pytest

from onmodel.evaluate.null import write_null
from tests.support.lora_files import SPEC, deltas, write


def test_every_layer_is_as_strong_and_points_elsewhere(tmp_path: Path) -> None:
    real = write(tmp_path / "real.safetensors", seed=1)
    write_null(real, tmp_path / "null.safetensors", SPEC, seed=3)
    ours, theirs = deltas(tmp_path / "null.safetensors"), deltas(real)
    assert list(ours) == list(theirs)
    for name, delta in ours.items():
        assert np.linalg.norm(delta) == pytest.approx(np.linalg.norm(theirs[name]), rel=1e-4)
        assert np.linalg.matrix_rank(delta) == 4
        cosine = (delta * theirs[name]).sum() / np.linalg.norm(delta) ** 2
        assert abs(cosine) < 0.3
    write_null(real, tmp_path / "again.safetensors", SPEC, seed=3)
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "null.safetensors"
    ).read_bytes()
