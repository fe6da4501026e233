"""Captions that are no text, and folders that hold what is no file."""

import os
from collections.abc import Callable, Mapping

from tests.hostile.case import Case, Place, run
from tests.hostile.imports import entered, refused, told
from tests.hostile.pictures import encoded

IMPORT = ("dataset", "import", "{in}/pictures", "--out", "{out}/work")
REFUSED: dict[str, bytes] = {
    "utf-16-no-bom": "1girl, smile".encode("utf-16-le"),
    "latin-1": "fille à".encode("latin-1"),
    "nul": b"1girl\0, smile",
    "binary": bytes(range(256)),
    "100-kb": b"smile, " * 15_000,
    "gzip": b"\x1f\x8b\x08\0" + bytes(50),
    "picture": encoded(),
    "policy": b"1girl, child, nude",
}
READ: dict[str, bytes] = {
    "utf-16": "1girl, smile".encode("utf-16"),
    "blank": b" \n\t\n",  # as no caption
    "bom": b"\xef\xbb\xbf1girl, smile",
    "html": b"<script>alert(1)</script>, <b>bold</b>",
    "windows": b"1girl,\r\nsmile\r\n",
    "markup": b"[bold]1girl[/], [/nothing], [link=x]y[/link]",
    "percent": b"%s %n {0} {{a}} $HOME `id`",
    "parentheses": b"(" * 3_000,
    "commas": b"," * 3_000 + b"1girl",
    "japanese": "猫, 笑顔".encode(),
}
EITHER: dict[str, bytes] = {
    "escape": b"1girl, \x1b[31mred\x1b[0m, \x07",
    "bidi": "1girl, \u202eelims".encode(),
    "separator": "a\u2028b, 1girl".encode(),
    "many-lines": b"1girl\n" * 1_000,
    "many-tags": b", ".join(b"t%d" % i for i in range(2_000)),
    "lone-bom": b"\xef\xbb\xbf",
    "long-word": b"a" * 5_000,
    "dropped-nul": b"\0" * 20,
}


def _caption(data: bytes | None) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        place.put("good.png", encoded(), below="pictures")
        place.put("good.txt", "1girl, smile", below="pictures")
        place.put("odd.png", encoded(size=(32, 25)), below="pictures")
        if data is not None:
            place.put("odd.txt", data, below="pictures")

    return build


def _captions(table: Mapping[str, bytes]) -> Callable[[Place], None]:
    """A good picture, and one for each of these captions."""

    def build(place: Place) -> None:
        _caption(b"1girl")(place)
        for i, (id, data) in enumerate(table.items()):
            place.put(f"odd-{id}.png", encoded(size=(32, 26 + i)), below="pictures")
            place.put(f"odd-{id}.txt", data, below="pictures")

    return build


def _special(make: Callable[[Place, str], None]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _caption(None)(place)
        make(place, str(place.given / "pictures" / "odd.txt"))

    return build


def _sparse(place: Place, path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(4 * 2**30)


SPECIAL: dict[str, Callable[[Place, str], None]] = {
    "folder": lambda place, path: os.mkdir(path),
    "pipe": lambda place, path: os.mkfifo(path),
    "link-to-secret": lambda place, path: os.symlink("../../elsewhere/secret.txt", path),
    "link-to-passwd": lambda place, path: os.symlink("/etc/passwd", path),
    "link-to-itself": lambda place, path: os.symlink("odd.txt", path),
    "link-to-nothing": lambda place, path: os.symlink("gone", path),
    "link-to-device": lambda place, path: os.symlink("/dev/zero", path),
    "link-to-memory": lambda place, path: os.symlink("/proc/self/environ", path),
    "4-gib": _sparse,
}


def _folder(make: Callable[[Place], None]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _caption(b"1girl")(place)
        make(place)

    return build


def _many(place: Place) -> None:
    for i in range(2_000):
        place.put(f"{i}.txt", "1girl", below="pictures")


def _deep(place: Place) -> None:
    here = os.open(place.given / "pictures", os.O_RDONLY)
    for _ in range(60):  # longer than a path may be
        os.mkdir("d" * 100, dir_fd=here)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


FOLDERS: dict[str, Callable[[Place], None]] = {
    "loop": lambda place: os.symlink(".", place.given / "pictures" / "again"),
    "loop-of-two": lambda place: (
        os.symlink("b", place.given / "pictures" / "a"),
        os.symlink("a", place.given / "pictures" / "b"),
    )[0],
    "link-to-root": lambda place: os.symlink("/", place.given / "pictures" / "root"),
    "pipe": lambda place: os.mkfifo(place.given / "pictures" / "pipe"),
    "captions-alone": _many,
    "deep": _deep,
    "cache": lambda place: place.put(
        "odd.npz", b"\x80\x04cposix\nsystem\n(V touch pwned\ntR.", below="pictures"
    ),
    "hidden": lambda place: place.put(".hidden.png", encoded(), below="pictures"),
    "desktop": lambda place: place.put("Thumbs.db", b"\xd0\xcf\x11\xe0", below="pictures"),
}


SOURCES: dict[str, Callable[[Place], None]] = {
    "missing": lambda place: None,
    "empty": lambda place: (place.given / "pictures").mkdir(),
    "loop": lambda place: (place.given / "pictures").symlink_to("pictures"),
    "pipe": lambda place: os.mkfifo(place.given / "pictures"),
    "device": lambda place: (place.given / "pictures").symlink_to("/dev/zero"),
    "file": lambda place: place.put("pictures", b"no folder"),
    "folders-of-nothing": lambda place: (place.given / "pictures" / "a" / "b").mkdir(parents=True),
    "unreadable": lambda place: (place.given / "pictures").mkdir(mode=0o000),
}

NAMES = tuple(f"odd-{id}.png" for id in REFUSED)
CASES = (
    Case(
        "captions-that-are-refused",
        _captions(REFUSED),
        (run(*IMPORT, codes=(0,), says=NAMES),),
        refused(*NAMES, entered=2),
    ),
    Case(
        "captions-that-are-read",
        _captions(READ),
        (run(*IMPORT, codes=(0,)),),
        entered(2 + len(READ)),
    ),
    Case(
        "captions-that-are-odd",
        _captions(EITHER),
        (run(*IMPORT, codes=(0,)),),
        told(2 + len(EITHER)),
    ),
    Case("caption-missing", _caption(None), (run(*IMPORT, codes=(0,)),), told(2)),
    *(
        Case(
            f"caption-{id}",
            _special(make),
            (run(*IMPORT, codes=(0,), says=("odd.",)),),
            refused("odd.", entered=None),
        )
        for id, make in SPECIAL.items()
    ),
    *(
        Case(f"folder-{id}", _folder(make), (run(*IMPORT, codes=(0,)),), told(2))
        for id, make in FOLDERS.items()
    ),
    *(Case(f"source-{id}", make, (run(*IMPORT),)) for id, make in SOURCES.items()),
)
