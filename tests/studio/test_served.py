"""What the server keeps, and what the browser may keep of it."""

import hashlib
import io
import socket
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.workshop import Piece
from onmodel.studio.gate import HOST
from onmodel.studio.server import listen
from onmodel.studio.thumbnails import LARGE, LONGEST, thumbnail
from tests.support.studio import serving
from tests.support.toon_pictures import toon_picture


def drawn(folder: Path, size: tuple[int, int], kind: str = "JPEG") -> Piece:
    """A picture of a data set, half red and half blue."""
    image = Image.new("RGB", size, (200, 0, 0))
    image.paste((0, 0, 200), (0, 0, size[0] // 2, size[1]))
    path = folder / f"picture.{kind.lower()}"
    image.save(path, kind, quality=95)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Piece(f"base/{path.name}", path, sha256, *size, "base", (), "", "own", "own")


def test_an_address_that_is_printed_answers(tmp_path: Path) -> None:
    with listen(0) as listener, socket.create_connection((HOST, listener.getsockname()[1])):
        pass


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("longest", [LONGEST, LARGE])
def test_a_thumbnail_has_the_side_that_is_wanted(tmp_path: Path, kind: str, longest: int) -> None:
    piece = drawn(tmp_path, (1500, 3000), kind)
    made = Image.open(io.BytesIO(thumbnail(tmp_path / "kept", piece, longest)))
    assert made.size == (longest // 2, longest)
    left, right = made.getpixel((10, 10)), made.getpixel((made.width - 10, 10))
    assert left[2] > 150 > 50 > left[0] and right[0] > 150 > 50 > right[2]  # type: ignore[index]


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    piece = drawn(tmp_path, (60, 40))
    assert Image.open(io.BytesIO(thumbnail(tmp_path / "kept", piece))).size == (60, 40)


@pytest.mark.parametrize("left", [0, 100])
def test_a_thumbnail_that_a_power_cut_left_half_is_made_again(tmp_path: Path, left: int) -> None:
    piece = drawn(tmp_path, (512, 512))
    whole = thumbnail(tmp_path / "kept", piece)
    (kept,) = (tmp_path / "kept").rglob("*.jpg")
    kept.write_bytes(whole[:left])
    assert thumbnail(tmp_path / "kept", piece) == whole == kept.read_bytes()


def test_a_browser_keeps_thumbnails_and_asks_about_scripts(tmp_path: Path) -> None:
    with serving(tmp_path) as browser:
        id = browser.form("/new", ("name", "momo")).json()["character"]
        data, caption = toon_picture(0)
        for name, body in (("0.png", data), ("0.txt", caption.encode())):
            browser.upload(f"/upload/{id}", name, body)
        browser.form(f"/new/{id}/finish", ("trigger", "momochar"))
        assert browser.post(f"/c/{id}/data/import").status == 200
        (row,) = browser.get(f"/c/{id}/data/rows").json()["rows"]
        kept = browser.get(f"/c/{id}/thumb/{row['content']}").headers["cache-control"]
        assert kept == "private, max-age=31536000, immutable"
        script = browser.get("/static/request.js")
        assert script.headers["cache-control"] == "no-cache"
        assert browser.get("/static/request.js", If_None_Match=script.headers["etag"]).status == 304
        assert browser.get(f"/c/{id}/data").headers["cache-control"] == "no-store"
