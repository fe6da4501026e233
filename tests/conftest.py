"""Fixtures that several packages' tests share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.disk import leave_out_fsync

if TYPE_CHECKING:
    from onmodel.families.anima.family import Anima

leave_out_fsync()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one test per core
# Ray reads these when it is imported, which another test of the same process may do first.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.fixture(scope="session")
def tiny_anima(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with a tiny random Anima of the real classes."""
    from tests.support.tiny_anima import write_tiny_anima

    return write_tiny_anima(tmp_path_factory.mktemp("tiny_anima"))


@pytest.fixture
def tiny_family(tiny_anima: Path) -> "Anima":
    """The tiny Anima, freshly loaded."""
    from onmodel.families.registry import load_base

    return load_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})
