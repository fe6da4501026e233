"""Sealed tensors: what was written, or an error that names the file."""

from pathlib import Path

import psutil
import pytest
import torch

from onmodel.dataset.cache import map_sealed, read_sealed, write_sealed
from onmodel.errors import StateError


def test_it_comes_back_and_old_files_go(tmp_path: Path) -> None:
    assert read_sealed(tmp_path, "state") is None
    for value in (1.0, 2.0):
        write_sealed(
            tmp_path, "state", {"a": torch.full((3,), value)}, {"steps": 4, "rows": [(1, 0.5)]}
        )
    sealed = read_sealed(tmp_path, "state")
    assert sealed is not None
    assert sealed[0]["a"].tolist() == [2.0, 2.0, 2.0] and sealed[1] == {
        "steps": 4,
        "rows": [[1, 0.5]],
    }
    assert len(list(tmp_path.iterdir())) == 2


def test_every_damage_is_named(tmp_path: Path) -> None:
    write_sealed(tmp_path, "state", {"a": torch.arange(50.0)}, {"steps": 4})
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        for position in range(0, len(data), 7):
            if chr(data[position]).isspace():
                continue  # white space of the JSON carries nothing
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            with pytest.raises(StateError) as error:
                read_sealed(tmp_path, "state")
            assert error.value.path.parent == tmp_path
        path.write_bytes(data)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(StateError, match=r"state-.*\.safetensors"):
        read_sealed(tmp_path, "state")


def test_mapped_tensors_take_no_memory_and_leave_the_file_alone(tmp_path: Path) -> None:
    tensors = {name: torch.full((2 << 20,), value) for name, value in (("a", 1.0), ("b", 2.0))}
    write_sealed(tmp_path, "latents", tensors, {})
    (path,) = tmp_path.glob("*.safetensors")
    before = path.read_bytes()
    memory = psutil.Process().memory_info().rss
    sealed = map_sealed(tmp_path, "latents")
    assert sealed is not None and psutil.Process().memory_info().rss - memory < 4 << 20  # of 16 MiB
    assert all(torch.equal(sealed[0][name], tensor) for name, tensor in tensors.items())
    read = read_sealed(tmp_path, "latents")
    assert read is not None
    read[0]["a"].zero_()
    assert path.read_bytes() == before
