"""A whole release of the tiny base, built once by the stage itself."""

import shutil
from pathlib import Path

import pytest

from onmodel.stages import release


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_anima: Path) -> Path:
    """Its folder. The self-test has tests of its own and is left out."""
    from tests.support.built_release import NAME, build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "self_test", lambda *_: None)
        return build(tmp_path_factory.mktemp("built"), tiny_anima).path / NAME


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / built.name))
