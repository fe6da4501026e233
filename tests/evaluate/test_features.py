"""Features: shapes, the cache of finished chunks, damaged files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.errors import StateError
from onmodel.evaluate import features
from onmodel.evaluate.features import Features, measure, observe, open_picture
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.observers.identity import Identity
from onmodel.evaluate.observers.tagger import Tagger
from onmodel.events import Events
from tests.support.onnx_files import write_identity, write_tagger


@pytest.fixture
def observers(tmp_path: Path) -> Observers:
    tagger = write_tagger(
        tmp_path / "tagger", [("general", 9), ("red", 0)], np.array([[0, 0, 0], [-4, -4, 4]])
    )
    return Observers(
        Tagger(tagger, 1), Identity(write_identity(tmp_path / "identity", np.eye(3)), 1)
    )


def look(
    paths: list[Path], observers: Observers, cache: Path, palette: dict[str, str] | None = None
) -> Features:
    with Events().task("look", total=len(paths)) as task:
        return measure(paths, observers, palette or {}, cache, task)


def write(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("RGB", (48, 32), (5 * i, 120, 200)).save(path)
    return paths


def test_shapes_and_order_over_chunks(tmp_path: Path, observers: Observers) -> None:
    paths = write(tmp_path / "pictures", 40)
    found = look(paths, observers, tmp_path / "cache")
    assert found.tags.shape == (40, 1) and found.identity.shape == (40, 3)
    assert (
        found.lab.shape == (40, 2, 3)
        and found.sectors.shape == (40, 2, 12)
        and found.box.shape == (40, 4)
    )
    assert (
        found.parts.shape == (40, 2, 5)
        and not found.heads.any()
        and np.isnan(found.corruption).all()
    )
    assert found.style.shape == (40, 0) and found.copy.shape == (40, 768)
    assert np.array_equal(found.tags[33:34], observe([open_picture(paths[33])], observers, {}).tags)
    grid = found.take(np.arange(40).reshape(10, 4))
    assert grid.box.shape == (10, 4, 4) and np.array_equal(grid.tags[2, 1], found.tags[9])


def test_finished_chunks_are_not_looked_at_again(
    tmp_path: Path, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path / "pictures", 40)
    first = look(paths, observers, tmp_path / "cache")
    monkeypatch.setattr(features, "observe", None)
    again = look(paths, observers, tmp_path / "cache")
    assert np.array_equal(first.identity, again.identity)
    with pytest.raises(TypeError):  # another palette is another question
        look(paths, observers, tmp_path / "cache", {"hair": "#123456"})


def test_a_damaged_chunk_is_named(tmp_path: Path, observers: Observers) -> None:
    paths = write(tmp_path / "pictures", 3)
    look(paths, observers, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(StateError, match=kept.name):
        look(paths, observers, tmp_path / "cache")


def test_without_observers_their_width_is_zero(tmp_path: Path) -> None:
    found = observe([Image.new("RGB", (48, 32), (9, 120, 200))] * 2, Observers(None, None), {})
    assert (
        found.tags.shape == (2, 0)
        and found.identity.shape == (2, 0)
        and found.lab.shape == (2, 2, 3)
    )


def test_pictures_are_opened_upright_on_white_or_not_at_all(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (8, 4))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (4, 8)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(StateError, match=r"torn\.png"):
        open_picture(tmp_path / "torn.png")
