"""Letters over a drawing are read, drawings without letters hold none, and what was read once is
not read again."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from onmodel.curate.crop import Cropped
from onmodel.curate.lettering import audit_lettering, load_reader, read, read_all
from onmodel.errors import StateError
from onmodel.events import Events
from onmodel.toon.attributes import BACKGWA, VOCABULARY
from onmodel.toon.draw import draw

READER = load_reader(1)
assert READER is not None, "the extra `lettering` is part of `dev`"


def drawing(i: int) -> Image.Image:
    style = list(VOCABULARY["style"])[i]
    return draw(
        BACKGWA.toon(nuisance=i, style=style, framing="close-up" if i % 2 else "upper body"),
        192,
        192,
    )


def lettered(image: Image.Image) -> Image.Image:
    image = image.copy()
    ink = ImageDraw.Draw(image)
    ink.text(
        (8, 168),
        "toonhouse",
        fill="white",
        font=ImageFont.load_default(16),
        stroke_width=2,
        stroke_fill="black",
    )
    return image


def test_a_watermark_is_read_and_plain_drawings_hold_no_letters() -> None:
    plain = [drawing(i) for i in range(6)]
    assert [read(READER, image) for image in plain] == [[]] * 6
    texts = [read(READER, lettered(image)) for image in plain]
    assert sum("toonhouse" in text.lower() for row in texts for text, _ in row) >= 5


def test_a_reading_is_one_finding_that_sets_aside() -> None:
    [found] = audit_lettering(["a/0", "a/1"], [[], [("SAMPLE", 0.98), ("toonhouse", 0.8)]])
    assert (found.picture, found.kind, found.evidence) == (
        "a/1",
        "lettering",
        "reads 'SAMPLE' (0.98), 'toonhouse' (0.80)",
    )
    assert found.fix is not None and found.fix.aside


def test_what_was_read_is_kept_and_a_damaged_piece_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    lettered(drawing(0)).save(path)
    with Events().task("read", 3) as task:
        first = read_all(READER, [Cropped(path)], ["hash"], tmp_path / "seen", task)
        path.unlink()
        assert (
            first[0]
            and read_all(READER, [Cropped(path)], ["hash"], tmp_path / "seen", task) == first
        )
        [piece] = (tmp_path / "seen").iterdir()
        piece.write_text("[[3]]")
        with pytest.raises(StateError, match=piece.name):
            read_all(READER, [Cropped(path)], ["hash"], tmp_path / "seen", task)
