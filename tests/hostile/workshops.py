"""Data sets in the making whose files were damaged, cut by a kill, or passed on by a stranger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Place, run
from tests.hostile.pictures import encoded

ODD = "a\u2028b\u2029c\x85d \x1b[31m \u202e [/x] 猫"
FIRST = {"step": 1, "do": "aside", "by": "person", "picture": "pictures/1", "why": "mine"}


def _row(**facts: Any) -> bytes:
    return json.dumps({**FIRST, **facts}, ensure_ascii=False).encode() + b"\n"


JOURNALS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "half-line": (_row() + b'{"step": 2, "do": "as', (0,)),
    "separator": (_row(why=ODD) + _row(step=2, do="keep"), (0,)),
    "separator-first": (_row(why="\u2028") + _row(step=2), (0,)),
    "garbage": (b"garbage\n" + _row(), (1,)),
    "garbage-between": (_row() + b"\xff\xfe\n" + _row(step=2), (1,)),
    "nul": (b"\0" * 50 + b"\n" + _row(), (1,)),
    "deep": (b"[" * 200_000 + b"\n", (1,)),
    "number": (b"5\n", (1,)),
    "list": (b"[]\n", (1,)),
    "null": (b"null\n", (1,)),
    "unknown-picture": (_row(picture="pictures/gone"), (1,)),
    "unknown-word": (_row(mood="gay"), (1,)),
    "unknown-do": (_row(do="exec"), (0, 1)),
    "no-step": (b'{"do": "aside", "by": "person", "picture": "pictures/1"}\n', (1,)),
    "step-text": (_row(step="one"), (1,)),
    "repeats-text": (_row(do="repeats", picture="", subset="pictures", repeats="many"), (1,)),
    "strict-number": (_row(do="strict", picture="", subset="pictures", add=5), (1,)),
    "aliases-up": (_row(do="aliases", picture="", aliases="../../../elsewhere/secret"), (1, 2)),
    "aliases-gone": (_row(do="aliases", picture="", aliases="0" * 64), (1, 2)),
    "add-number": (_row(do="add", picture="pictures/9", piece=5), (1,)),
    "add-empty": (_row(do="add", picture="pictures/9", piece={}), (1,)),
    "undo-text": (_row(do="undo", picture="", undone="x"), (0, 1)),
    "digits": (b'{"step": ' + b"9" * 6_000 + b"}\n", (1,)),
    "blank-lines": (b"\n\n" + _row(), (0, 1)),
    "windows": (_row().replace(b"\n", b"\r\n"), (0,)),
    "picture-number": (_row(picture=5), (1,)),
}
TABLES: dict[str, Callable[[dict[str, Any]], object] | bytes] = {
    "empty": b"",
    "text": b"no json",
    "deep": b"[" * 200_000,
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "not-utf8": b"\xff",
    "cut": b'{"pictures": [',
    "no-pictures": lambda t: t.pop("pictures"),
    "no-repeats": lambda t: t.pop("repeats"),
    "pictures-number": lambda t: t.update(pictures=5),
    "pictures-rows": lambda t: t.update(pictures=[5]),
    "repeats-list": lambda t: t.update(repeats=[1]),
    "repeats-text": lambda t: t.update(repeats={"pictures": "many"}),
    "repeats-null": lambda t: t.update(repeats={"pictures": None}),
    "no-name": lambda t: t["pictures"][0].pop("name"),
    "path-number": lambda t: t["pictures"][0].update(path=5),
    "width-text": lambda t: t["pictures"][0].update(width="wide"),
    "tags-number": lambda t: t["pictures"][0].update(tags=5),
}
# Names in a data set that a stranger passed on: an export must not follow them out of its folder.
NAMED: dict[str, Callable[[dict[str, Any], Place], object]] = {
    "name-up": lambda t, place: t["pictures"][0].update(
        name="../../../elsewhere/pwned", subset="pictures"
    ),
    "subset-up": lambda t, place: t["pictures"][0].update(
        name="../../elsewhere/pwned/a", subset="../../elsewhere/pwned"
    ),
    "subset-absolute": lambda t, place: t["pictures"][0].update(
        name=f"{place.pwned}/a", subset=str(place.pwned)
    ),
    "subset-device": lambda t, place: t["pictures"][0].update(name="con/a", subset="con"),
    "subset-backslash": lambda t, place: t["pictures"][0].update(name="..\\x/a", subset="..\\x"),
    "subset-escape": lambda t, place: t["pictures"][0].update(name="\x1b[2J/a", subset="\x1b[2J"),
    "path-secret": lambda t, place: t["pictures"][0].update(
        path=str(place.elsewhere / "secret.txt")
    ),
    "path-device": lambda t, place: t["pictures"][0].update(path="/dev/zero"),
    "path-gone": lambda t, place: t["pictures"][0].update(path="/gone"),
    "path-folder": lambda t, place: t["pictures"][0].update(path=str(place.elsewhere)),
}


def _work(place: Place) -> Path:
    """A workshop in {out}/work over two pictures, as an import writes it."""
    work, rows = place.out / "work", []
    for i in range(2):
        data = encoded(size=(32, 32 + i))
        place.put(f"{i}.png", data, below="pictures")
        rows.append(
            {
                "name": f"pictures/{i}",
                "path": str(place.given / "pictures" / f"{i}.png"),
                "sha256": _sha256(data),
                "width": 32,
                "height": 32 + i,
                "subset": "pictures",
                "tags": [{"tag": "1girl", "by": "file"}],
                "sentence": "",
                "origin": "me",
                "rights": "mine",
            }
        )
    work.mkdir()
    (work / "pictures.json").write_text(
        json.dumps({"pictures": rows, "repeats": {"pictures": 1}, "refused": []})
    )
    return work


def _sha256(data: bytes) -> str:
    from onmodel.hashing import sha256_bytes

    return sha256_bytes(data)


def _journal(data: bytes) -> Callable[[Place], None]:
    return lambda place: (_work(place) / "journal.jsonl").write_bytes(data) and None


def _table(change: Callable[[dict[str, Any]], object] | bytes) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        path = _work(place) / "pictures.json"
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            table = json.loads(path.read_text())
            change(table)
            path.write_text(json.dumps(table))

    return build


def _named(change: Callable[[dict[str, Any], Place], object]) -> Callable[[Place], None]:
    return lambda place: _table(lambda table: change(table, place))(place)


def _kept(place: Place) -> list[str]:
    """What was decided before still stands: the first line of the journal is there."""
    first = (place.out / "work" / "journal.jsonl").read_bytes().split(b"\n")[0]
    return (
        []
        if b"mine" in first or b"why" in first
        else [f"the first decision is gone: {first[:80]!r}"]
    )


LABELS, EXPORT = (
    ("dataset", "labels", "{out}/work"),
    ("dataset", "export", "{out}/work", "--out", "{out}/set"),
)
DECIDE = ("dataset", "decide", "{out}/work", "pictures/0", "--keep", "--why", ODD)
CASES = (
    *(
        Case(
            f"journal-{id}",
            _journal(data),
            (
                run(
                    *LABELS,
                    codes=codes,
                    says=("journal.jsonl",) if codes == (1,) and "aliases" not in id else (),
                ),
                run(*DECIDE, codes=codes),
                run(*LABELS, codes=codes),
                run(*EXPORT, codes=codes),
            ),
            _kept if codes == (0,) else lambda place: [],
        )
        for id, (data, codes) in JOURNALS.items()
    ),
    *(
        Case(
            f"workshop-{id}",
            _table(change),
            (
                run(*LABELS, codes=(1,), says=("work",)),
                run(*DECIDE, codes=(1,)),
                run(*EXPORT, codes=(1,)),
            ),
        )
        for id, change in TABLES.items()
    ),
    *(
        Case(
            f"workshop-{id}",
            _named(change),
            (run(*EXPORT, codes=(0, 1, 2) if id == "name-up" else (1, 2)),),
        )
        for id, change in NAMED.items()
    ),
    Case("workshop-missing", lambda place: None, (run(*LABELS), run(*EXPORT), run(*DECIDE))),
    Case(
        "workshop-two-decisions",
        lambda place: _work(place) and None,
        (
            run(*DECIDE, codes=(0,)),
            run(*DECIDE, codes=(0,)),
            run("dataset", "undo", "{out}/work", codes=(0,)),
            run(*EXPORT, codes=(0,)),
        ),
        _kept,
    ),
)
