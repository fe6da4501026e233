"""Arrays in one file: what comes back is what was written, or an error that names the file."""

from pathlib import Path

import numpy as np
import pytest

from onmodel.dataset.arrays import read_arrays, write_arrays
from onmodel.errors import StateError

ARRAYS = {
    "tags": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none": np.zeros((2, 0)),
    "grain": np.array([1.5, 2.5]),
}


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.arrays"
    assert read_arrays(path) is None
    write_arrays(path, ARRAYS)
    found = read_arrays(path)
    assert found is not None and list(found) == list(ARRAYS)
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_every_changed_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.arrays"
    write_arrays(path, ARRAYS)
    good = path.read_bytes()
    damaged = [
        good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        for place in range(0, len(good), 11)
    ]
    for data in [*damaged, b"", good[:20], good[:-1], good + b"x"]:
        path.write_bytes(data)
        with pytest.raises(StateError, match=r"a\.arrays: is damaged; remove it"):
            read_arrays(path)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        read_arrays(tmp_path)
