"""Damage to what onmodel wrote: objects and ledger of a project, each file of a release."""

import os
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Case, Place, run
from tests.hostile.pictures import encoded
from tests.hostile.releases import put, whole

RECIPE = """[recipe]
name = "two"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1
[stages.data]
do = "curate"
subsets.base = [{ folder = "pictures" }]
[stages.more]
do = "curate"
subsets.base = [{ dataset = "data", subset = "base" }]
"""


def flip(path: Path) -> None:
    """One bit in the middle of a file is another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": cut,
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
}
PIECES = {
    "history": "objects/*/*/lineage.json",
    "manifest": "objects/*/*/manifest.json",
    "picture": "objects/*/*/images/*.png",
}


def _project(place: Place) -> None:
    for i in range(3):
        place.put(f"{i}.png", encoded(size=(32, 32 + i)), below="pictures")
        place.put(f"{i}.txt", f"1girl, backgwa, smile {i}", below="pictures")
    place.put("r.toml", RECIPE)


def _damaged(pattern: str, damage: Callable[[Path], object]) -> Callable[[Place], object]:
    return lambda place: damage(sorted((place.out / "p").glob(pattern))[0])


def _written(name: str, data: bytes) -> Callable[[Place], object]:
    def write(place: Place) -> None:
        (place.out / "p" / name).write_bytes(data)
        for more in (
            "-wal",
            "-shm",
        ):  # SQLite's own copy of what a ledger held, from which it mends itself
            (place.out / "p" / (name + more)).unlink(missing_ok=True)

    return write


FIRST, ALL = (
    ("run", "{in}/r.toml", "--until", "data", "--project", "{out}/p"),
    ("run", "{in}/r.toml", "--project", "{out}/p"),
)
NAMES = {"history": "lineage.json", "manifest": "manifest.json", "picture": ".png"}
# Notes that nothing depends on: damaged, they are written again.
NOTES: dict[str, Callable[[Place], object]] = {
    "writer": _written("writer.txt", b"\xff\xfe\x1b[31m"),
    "summary": _written("summary.json", b"no json"),
    "lock": _written("writer.lock", b"x"),
    "left-over": _written(".onmodel-torn", b"half a file"),
}
LEDGER: dict[str, bytes] = {
    "text": b"no ledger",
    "zeros": bytes(8192),
    "head-only": b"SQLite format 3\0" + bytes(50),
    "pickle": b"\x80\x04cposix\nsystem\n(V touch pwned\ntR.",
}


def _release(name: str, damage: Callable[[Path], object]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        put(place, whole())
        damage(place.given / "tiny" / name)

    return build


CASES = (
    Case(
        "state-whole",
        _project,
        (run(*FIRST, codes=(0,)), run(*ALL, codes=(0,)), run(*ALL, codes=(0,))),
    ),
    *(
        Case(
            f"state-{piece}-{how}",
            _project,
            (
                run(*FIRST, codes=(0,)),
                _damaged(pattern, damage),
                run(*ALL, codes=(1,), says=(NAMES[piece],)),
            ),
        )
        for piece, pattern in PIECES.items()
        for how, damage in DAMAGES.items()
    ),
    *(
        Case(
            f"state-ledger-{id}",
            _project,
            (
                run(*FIRST, codes=(0,)),
                _written("onmodel.db", data),
                run(*ALL, codes=(1,), says=("onmodel.db",)),
            ),
        )
        for id, data in LEDGER.items()
    ),
    *(
        Case(
            f"state-{id}",
            _project,
            (run(*FIRST, codes=(0,)), note, run(*ALL, codes=(0,))),
        )
        for id, note in NOTES.items()
    ),
    *(
        Case(
            f"state-release-{name.replace('/', '-')}-{how}",
            _release(name, damage),
            (run("release", "verify", "{in}/tiny", codes=(1,), says=(name,)),),
        )
        for name in whole()
        for how, damage in DAMAGES.items()
    ),
    Case(
        "state-release-whole",
        lambda place: put(place, whole()),
        (
            run("release", "verify", "{in}/tiny", codes=(0,)),
            run("release", "lineage", "{in}/tiny", codes=(0,)),
            run("release", "lineage", "{in}/tiny", "--html", "{out}/page.html", codes=(0,)),
        ),
    ),
)
