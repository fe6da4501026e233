"""Much at once: a zip of 200 MB, and a folder of 5,000 pictures, in bounded memory."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support.studio_process import StudioProcess, studio_process

ZIP_PICTURES, SIDE = 260, 512  # of random pixels, which no PNG makes smaller: 786 kB each
FOLDER_PICTURES = 5_000
UPLOAD_MB = 40  # that the studio may take for an upload of any size
IMPORT_MB = 200  # for an import, with the packages that look at pictures


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    with studio_process(tmp_path_factory.mktemp("workspace")) as studio:
        yield studio


def peak_mb(studio: StudioProcess) -> float:
    """The most memory that the studio has held, where the system tells it; else what it holds."""
    status = Path(f"/proc/{studio.process.pid}/status")
    if status.is_file():
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    return float(psutil.Process(studio.process.pid).memory_info().rss) / 1e6


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(ZIP_PICTURES):
            with archive.open(f"art/{i}.png", "w") as file:
                pixels = os.urandom(SIDE * SIDE * 3)
                Image.frombytes("RGB", (SIDE, SIDE), pixels).save(file, "PNG", compress_level=0)


def test_a_zip_of_200_mb_is_unpacked_in_bounded_memory(
    studio: StudioProcess, tmp_path: Path
) -> None:
    write_zip(tmp_path / "many.zip")
    data = (tmp_path / "many.zip").read_bytes()
    assert len(data) > 200e6
    id = studio.browser.form("/new", ("name", "zip")).json()["character"]
    studio.browser.upload(f"/upload/{id}", "first.txt", b"x")
    before = peak_mb(studio)
    answer = studio.browser.upload(f"/upload/{id}", "many.zip", data)
    assert answer.json() == {"left": []}
    assert peak_mb(studio) - before < UPLOAD_MB
    assert studio.browser.form(f"/new/{id}/finish", ("trigger", "momochar")).status == 200


def test_a_folder_of_5000_pictures_is_imported_in_bounded_memory(studio: StudioProcess) -> None:
    browser = studio.browser
    workspace = Path(studio.process.args[-1])  # type: ignore[index,arg-type]
    id = browser.form("/new", ("name", "folder")).json()["character"]
    for i in range(FOLDER_PICTURES):
        image = Image.new("RGB", (32, 32), (i % 256, i // 256, 0))
        image.putpixel((i % 32, i // 32 % 32), (255, 255, 255))
        image.save(workspace / "folder" / "pictures" / f"{i:04}.png")
    before = peak_mb(studio)
    assert browser.form(f"/new/{id}/finish", ("trigger", "momochar")).status == 200
    answer = browser.post(f"/c/{id}/data/import")
    assert answer.status == 200, answer.text
    assert peak_mb(studio) - before < IMPORT_MB
    found = browser.get(f"/c/{id}/data/rows?from=4900&count=200").json()
    assert found["total"] == FOLDER_PICTURES and len(found["rows"]) == 100
    last = found["rows"][-1]
    assert browser.get(f"/c/{id}/thumb/{last['content']}").status == 200
    changed = browser.post(f"/c/{id}/data/edit", {"q": "", "add": "many"}).json()["changed"]
    assert changed == FOLDER_PICTURES
