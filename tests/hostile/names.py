"""Names of files and folders that a terminal, a page or another system misreads."""

import os
from collections.abc import Callable

from tests.hostile.case import Case, Place, run
from tests.hostile.imports import entered, read, told
from tests.hostile.pictures import encoded

STEMS: dict[str, str | bytes] = {
    "newline": "a\nonmodel: b",
    "return": "a\rb",
    "tab": "a\tb",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "delete": "a\x7fb",
    "c1-escape": "\x9b31mred",
    "line-separator": "a\u2028b",
    "paragraph-separator": "a\u2029b",
    "bidi-override": "\u202egnp.exe",
    "bidi-isolate": "\u2066a\u2069",
    "zero-width": "a\u200bb",
    "bom": "\ufeffa",
    "soft-hyphen": "a\u00adb",
    "tag-letters": "a\U000e0041b",
    "next-line": "a\x85b",
    "noncharacter": "a\uffffb",
    "not-utf8": b"\xff\xfe",
    "latin-1": b"caf\xe9",
    "surrogate": b"\xed\xa0\x80",
    "overlong": b"a\xc0\xafb",
    "japanese": "ねこ",
    "arabic": "قطة",
    "emoji": "👩‍👧",
    "stacked": "a" + "\u0301" * 60,
    "251-bytes": "a" * 251,
    "250-bytes": "é" * 125,
    "dash": "-rf",
    "option": "--help",
    "assignment": "a=b",
    "markup": "[bold red]a[/]",
    "open-markup": "[/nothing]",
    "link-markup": "[link=https://a.example]x[/link]",
    "html": "<img src=x onerror=alert(1)>",
    "quotes": "\"';--",
    "percent": "%s%n{0}{a}",
    "shell": "$(touch pwned)`id`;&|",
    "backslashes": "a\\..\\..\\b",
    "drive": "C:a",
    "stream": "a.png:b",
    "space-behind": "a ",
    "space-before": " a",
    "device": "con",
    "device-2": "AUX.old",
    "port": "COM1",
    "star": "*",
    "question": "?",
    "hash": "#",
    "encoded": "%2e%2e%2fa",
    "spaces": "   ",
    "number": "0",
    "formula": "=cmd|'/c calc'!A1",
    "comma": "a,b",
    "two-dots": "a..b",
    "tilde": "~",
    "pipe": "|",
    "null-word": "null",
}
IDS = list(STEMS)
FOLDERS = {
    "newline",
    "escape",
    "line-separator",
    "bidi-override",
    "not-utf8",
    "latin-1",
    "251-bytes",
    "dash",
    "markup",
    "html",
    "backslashes",
    "drive",
    "device",
    "spaces",
    "space-behind",
}  # names that are tried as those of folders, too
ON_A_PAGE = (
    "escape",
    "line-separator",
    "bidi-override",
    "not-utf8",
    "open-markup",
    "html",
)
IMPORT = ("dataset", "import", "{in}/pictures", "--out", "{out}/work")
EXPORT = ("dataset", "export", "{out}/work", "--out", "{out}/set")


def _bytes(name: str | bytes) -> bytes:
    return os.fsencode(name)


def _picture(*stems: str | bytes) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        for i, stem in enumerate(("good", *stems)):
            place.put(_bytes(stem) + b".png", encoded(size=(32, 24 + i)), below="pictures")
            place.put(_bytes(stem) + b".txt", "1girl, smile", below="pictures")

    return build


def _subset(name: str | bytes) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        for i, folder in enumerate((b"good", _bytes(name))):
            place.put(folder + b"/a.png", encoded(size=(32, 24 + i)), below="pictures")
            place.put(folder + b"/a.txt", "1girl, smile", below="pictures")

    return build


def _all_written(count: int) -> Callable[[Place], list[str]]:
    """Each of the files is told, and what entered was exported, one file each."""

    def check(place: Place) -> list[str]:
        inside = sum(path.is_dir() for path in (place.given / "pictures").iterdir())
        found = told(count, inside)(place)
        made = sum(
            name.endswith(b".png")
            for *_, names in os.walk(os.fsencode(place.out / "set"))
            for name in names
        )
        if made != (entered := len(read(place)["pictures"])):
            found.append(f"{entered} pictures entered, {made} were exported")
        return found

    return check


PAIRS: dict[str, tuple[str | bytes, ...]] = {
    "case-pair": ("Sad", "sad"),
    "unicode-pair": ("caf\u00e9", "cafe\u0301"),
    "sharp-s-pair": ("straße", "strasse"),
    "escape-pair": ("a\x1b", "a\\x1b"),
    "hidden-pair": ("a", "a\u200b"),
    "byte-pair": (b"a\xff", b"a\xfe"),
    "bytes-and-text": (b"a\xff", "a\\xff"),
    "turkish-pair": ("I", "ı"),
    "ligature-pair": ("ﬁ", "fi"),
}
CASES = (
    *(
        Case(
            f"names-{group[0]}-and-others",
            _picture(*(STEMS[id] for id in group)),
            (run(*IMPORT, codes=(0,)), run(*EXPORT, codes=(0,))),
            _all_written(1 + len(group)),
        )
        for group in (IDS[i : i + 6] for i in range(0, len(IDS), 6))
    ),
    Case("name-hidden", _picture("..a"), (run(*IMPORT, codes=(0,)),), entered(1)),
    *(
        Case(f"subset-{id}", _subset(stem), (run(*IMPORT, codes=(0, 2)),))
        for id, stem in STEMS.items()
        if id in FOLDERS
    ),
    *(
        Case(
            f"name-{id}",
            _picture(*stems),
            (run(*IMPORT, codes=(0,)), run(*EXPORT, codes=(0,))),
            _all_written(1 + len(stems)),
        )
        for id, stems in PAIRS.items()
    ),
    Case(
        "name-same-stem",
        lambda place: (_picture("a")(place), place.put("a.jpg", encoded("JPEG"), below="pictures"))[
            0
        ],
        (run(*IMPORT, codes=(0,), says=("a.png", "a.jpg")),),
        told(3),
    ),
    Case(
        "names-together",
        _picture(*(STEMS[id] for id in ON_A_PAGE)),
        (
            run(*IMPORT, codes=(0,)),
            run("dataset", "audit", "{out}/work", "-c", "{sheet}", codes=(0,)),
            run(
                "dataset",
                "report",
                "{out}/work",
                "-c",
                "{sheet}",
                "-o",
                "{out}/page.html",
                codes=(0,),
            ),
            run("dataset", "plan", "{out}/work", "-c", "{sheet}", codes=(0,)),
        ),
        lambda place: _page(place),
    ),
)


def _page(place: Place) -> list[str]:
    page = (place.out / "page.html").read_text(encoding="utf-8")
    return [
        f"the page holds {sign!r} as it is"
        for sign in ("<img src=x onerror", "\u202e", "\x1b", "\u2028")
        if sign in page
    ]
