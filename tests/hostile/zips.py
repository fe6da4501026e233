"""Zips that lead out of their folder, unpack to too much, or are not what they say."""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

from tests.hostile.case import Case, Place, run
from tests.hostile.imports import entered, refused, told
from tests.hostile.pictures import encoded

IMPORT = ("dataset", "import", "{in}/heap.zip", "--out", "{out}/work")
FAR = "../" * 40  # leads to the root from wherever a zip is unpacked
Entry = tuple[str, bytes, int]  # name, data, mode


def packed(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these names as they are."""
    buffer = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive,
    ):
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, data in entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, data)
    return buffer.getvalue()


GOOD = (("set/good.png", encoded()), ("set/good.txt", b"1girl, smile"))


def linked(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, data in GOOD:
            archive.writestr(entry, data)
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o120777 << 16
        archive.writestr(info, target)
        archive.writestr(f"{name}/pwned.png", encoded())
    return buffer.getvalue()


def overlapping(copies: int, size: int) -> bytes:
    """Many entries over one piece of data: a few kB that unpack to copies × size bytes."""
    data = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = data.compress(bytes(size)) + data.flush()
    crc, name = zlib.crc32(bytes(size)), b"set/a.png"
    local = (
        struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 33, crc, len(body), size, len(name), 0)
        + name
        + body
    )
    rows = b""
    for i in range(copies):
        own = b"set/%05d.png" % i
        facts = (b"PK\1\2", 20, 20, 0, 8, 0, 33, crc, len(body), size, len(own), 0, 0, 0, 0, 0, 0)
        rows += struct.pack("<4sHHHHHHIIIHHHHHII", *facts) + own
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, copies, copies, len(rows), len(local), 0)
    return local + rows + end


def many(count: int) -> bytes:
    """A zip of `count` empty files, written without zipfile, which takes seconds for it."""
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    rows = bytearray()
    head = struct.pack("<4sHHHHHHIII", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0)
    for i in range(count):
        name = b"%x" % i
        rows += head + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    size, start = len(rows), len(local)
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    place = struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    return (
        local
        + bytes(rows)
        + wide
        + place
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    )


def patched(data: bytes, find: bytes, offset: int, new: bytes, last: bool = True) -> bytes:
    """`data` with other bytes at `offset` from the last (or first) place of `find`."""
    at = (data.rfind(find) if last else data.find(find)) + offset
    return data[:at] + new + data[at + len(new) :]


def with_odd(*names: str) -> bytes:
    """A zip of a good picture and of others with these names."""
    return packed(*GOOD, *((name, encoded(size=(32, 25 + i))) for i, name in enumerate(names)))


def bomb(size: int) -> bytes:
    return packed(*GOOD, ("set/odd.png", encoded()[:33] + bytes(size)), method=zipfile.ZIP_DEFLATED)


SLIPS = {
    "up": "../../../pwned-up.png",
    "up-inside": "set/../../../../pwned-up-inside.png",
    "backslash": "..\\..\\..\\pwned-backslash.png",
    "both": "..\\../..\\pwned-both.png",
    "drive": "C:\\pwned-drive.png",
    "drive-relative": "C:pwned-drive-relative.png",
    "drive-slash": "C:/pwned-drive-slash.png",
    "share": "\\\\host\\share\\pwned-share.png",
    "device-path": "\\\\?\\C:\\pwned-device-path.png",
    "stream": "set/pwned-stream.png:ads",
    "dot-parts": "set/./.././../../pwned-dot-parts.png",
}
SLIPPED = [f"pwned-{id}" for id in SLIPS]
ODD_SLIPS = {
    "only-up": "..",
    "deep": "set/" + "d/" * 3_000 + "pwned.png",
    "long-part": "set/" + "pwned" * 60 + ".png",
}
DEVICES = (
    "CON.png",
    "nul.png",
    "aux.txt.png",
    "COM1.png",
    "LPT¹.png",
    "con .png",
    "set/NUL/pwned.png",
)
HIDDEN_NAMES = {
    "newline": "set/odd-1\n.png",
    "escape": "set/odd-2\x1b[2J.png",
    "bidi": "set/odd-3\u202egnp.png",
    "separator": "set/odd-4\u2028.png",
    "space-behind": "set/odd-5.png ",
    "dot-behind": "set/odd-6.png.",
    "empty-part": "set//odd-7.png",
    "markup": "set/odd-8[/x].png",
}


def _slips(place: Place) -> None:
    """Names that lead to `pwned` itself, with either slash, absolute and by way of the root."""
    target = str(place.pwned).lstrip("/")
    names = [
        f"/{target}-1.png",
        f"{FAR}{target}-2.png",
        (FAR + target).replace("/", "\\") + "-3.png",
        f"\\{target}-4.png".replace("/", "\\"),
        f"set/{FAR}{target}-5.png",
        f"//{target}-6.png",
        f"/\\{target}-7.png",
        f"./{FAR}{target}-8.png",
        f"C:\\..\\{FAR}{target}-9.png",
    ]
    place.put("heap.zip", packed(*GOOD, *((name, encoded()) for name in names)))


def _lying_sizes(place: Place) -> None:
    """Both records say 100 bytes; the data unpack to 64 MB."""
    data = bomb(64_000_000)
    data = patched(data, b"set/odd.png", -46 + 24, struct.pack("<I", 100))
    place.put(
        "heap.zip", patched(data, b"set/odd.png", -30 + 22, struct.pack("<I", 100), last=False)
    )


def _many_bombs() -> bytes:
    """A file of 300 kB whose entries, each of a fair size, unpack to 300 MB."""
    body = encoded()[:33] + bytes(30_000_000)
    return packed(
        *GOOD, *((f"set/odd-{i}.png", body) for i in range(10)), method=zipfile.ZIP_DEFLATED
    )


def _little_written(place: Place) -> list[str]:
    size = sum(path.stat().st_size for path in place.out.rglob("*") if path.is_file())
    return [f"{size} bytes were unpacked"] if size > 100_000_000 else []


def _zip(data: Callable[[], bytes]) -> Callable[[Place], None]:
    return lambda place: place.put("heap.zip", data())


def _nested() -> bytes:
    inner = packed(("a.png", encoded()))
    for _ in range(20):
        inner = packed(("set/a.zip", inner))
    return packed(*GOOD, ("set/odd.zip", inner))


def _cp437() -> bytes:
    return with_odd("set/XXX.png").replace(b"XXX", b"\x82\x8a\xe1")


def _not_utf8() -> bytes:
    return with_odd("set/éé.png").replace("éé".encode(), b"\xff\xfe\xfd\xfc")


READS: dict[str, tuple[Callable[[], bytes], int]] = {
    "good": (lambda: packed(*GOOD), 1),
    "deflated": (lambda: packed(*GOOD, method=zipfile.ZIP_DEFLATED), 1),
    "cp437": (_cp437, 2),
    "comment": (lambda: packed(*GOOD)[:-2] + struct.pack("<H", 4) + b"\x1b[2J", 1),
    "program-before": (lambda: b"#!/bin/sh\ntouch pwned\n" + packed(*GOOD), 1),
    "dot-part": (lambda: packed(*((f"./{n}", d) for n, d in GOOD)), 1),
}
WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "crc": (
        lambda: patched(with_odd("set/odd.png"), b"set/odd.png", -46 + 16, b"\1\2\3\4"),
        "odd.png",
    ),
    "encrypted": (
        lambda: patched(with_odd("set/odd.png"), b"set/odd.png", -46 + 8, b"\x01"),
        "odd.png",
    ),
    "unknown-method": (
        lambda: patched(with_odd("set/odd.png"), b"set/odd.png", -46 + 10, b"\x63"),
        "odd.png",
    ),
    "offset-beyond": (
        lambda: patched(with_odd("set/odd.png"), b"set/odd.png", -4, b"\xff\xff\xff\x7f"),
        "heap.zip",
    ),
    "size-beyond": (
        lambda: patched(
            with_odd("set/odd.png"), b"set/odd.png", -46 + 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"
        ),
        "heap.zip",
    ),
    "ratio": (lambda: bomb(300_000_000), "odd.png"),
    "names-differ": (
        lambda: with_odd("set/odd.png").replace(b"set/odd.png", b"set/bad.png", 1),
        "odd.png",
    ),
    "torn-data": (
        lambda: patched(
            packed(*GOOD, ("set/odd.png", encoded(size=(99, 99))), method=zipfile.ZIP_DEFLATED),
            b"set/odd.png",
            30,
            b"\xff" * 40,
            last=False,
        ),
        "odd.png",
    ),
    "nested": (_nested, "odd.zip"),
    "pickle": (
        lambda: packed(*GOOD, ("set/odd.pkl", b"\x80\x04cposix\nsystem\n(V touch pwned\ntR.")),
        "1 × .pkl",
    ),
    "duplicate": (
        lambda: packed(
            *GOOD,
            ("set/odd.png", encoded(size=(32, 30))),
            ("set/odd.txt", b"a"),
            ("set/odd.png", encoded(size=(32, 31))),
        ),
        "odd.png",
    ),
    "case-pair": (
        lambda: packed(
            *GOOD,
            ("set/odd.png", encoded(size=(32, 30))),
            ("set/odd.txt", b"a"),
            ("set/ODD.png", encoded(size=(32, 31))),
            ("set/ODD.txt", b"a"),
        ),
        "ODD.png",
    ),
    "unicode-pair": (
        lambda: packed(
            *GOOD,
            ("set/caf\u00e9.png", encoded(size=(32, 30))),
            ("set/caf\u00e9.txt", b"a"),
            ("set/cafe\u0301.png", encoded(size=(32, 31))),
            ("set/cafe\u0301.txt", b"a"),
        ),
        "caf",
    ),
    "file-and-folder": (
        lambda: packed(
            *GOOD, ("set/odd", encoded(size=(32, 30))), ("set/odd/pwned.png", encoded())
        ),
        "odd",
    ),
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no zip",
    "no-entries": lambda: packed(),
    "cut": lambda: packed(*GOOD)[:-40],
    "head-only": lambda: packed(*GOOD)[:60],
    "end-only": lambda: packed(*GOOD)[-22:],
    "folders-only": lambda: packed(("a/", b""), ("b/", b"")),
    "directory-beyond": lambda: patched(packed(*GOOD), b"PK\5\6", 16, b"\xff\xff\xff\x7f"),
    "zip64-lies": lambda: (
        packed(*GOOD)[:-22]
        + struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 2**60, 2**60, 2**60, 2**62)
        + struct.pack("<4sIQI", b"PK\6\7", 0, 2**62, 1)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    ),
    "zip64-end-beyond": lambda: (
        struct.pack("<4sIQI", b"PK\6\7", 0, 2**63 - 1, 1)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    ),
    "70000-entries": lambda: many(70_000),
    "overlap-bomb": lambda: overlapping(2_000, 20_000_000),
    "7z": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "rar": lambda: b"Rar!\x1a\x07\x01\0" + bytes(60),
    "tar": lambda: b"a.png" + bytes(600),
}

CASES = (
    Case(
        "zip-slip-to-a-canary",
        _slips,
        (run(*IMPORT, codes=(0,), says=("pwned",)),),
        refused("pwned"),
    ),
    Case(
        "zip-slips",
        _zip(lambda: with_odd(*SLIPS.values())),
        (run(*IMPORT, codes=(0,), says=tuple(SLIPPED)),),
        refused(*SLIPPED),
    ),
    *(
        Case(
            f"zip-slip-{id}",
            _zip(lambda name=name: with_odd(name)),
            (run(*IMPORT, codes=(0,)),),
            told(2),
        )
        for id, name in ODD_SLIPS.items()
    ),
    Case(
        "zip-devices",
        _zip(lambda: with_odd(*DEVICES)),
        (run(*IMPORT, codes=(0,)),),
        refused(*DEVICES),
    ),
    Case(
        "zip-hidden-names",
        _zip(lambda: with_odd(*HIDDEN_NAMES.values())),
        (run(*IMPORT, codes=(0,)),),
        told(1 + len(HIDDEN_NAMES), inside=1),
    ),
    *(
        Case(
            f"zip-{id}",
            _zip(data),
            (run(*IMPORT, codes=(0,)),),
            told(count) if id == "cp437" else entered(count),
        )
        for id, (data, count) in READS.items()
    ),
    *(
        Case(f"zip-{id}", _zip(data), (run(*IMPORT, codes=(0, 2), says=(name,)),))
        for id, (data, name) in WRONG.items()
    ),
    *(Case(f"zip-{id}", _zip(data), (run(*IMPORT),)) for id, data in BROKEN.items()),
    Case("zip-lying-sizes", _lying_sizes, (run(*IMPORT, codes=(0, 2), says=("odd.png",)),)),
    Case(
        "zip-many-bombs",
        _zip(_many_bombs),
        (run(*IMPORT, codes=(0, 2), says=("heap.zip",)),),
        _little_written,
    ),
    Case(
        "zip-link-out",
        _zip(lambda: linked("set/way", "../../../../elsewhere")),
        (run(*IMPORT, codes=(0,), says=("way",)),),
        refused("way"),
    ),
    Case(
        "zip-link-absolute",
        lambda place: place.put("heap.zip", linked("set/way", str(place.elsewhere))),
        (run(*IMPORT, codes=(0,), says=("way",)),),
        refused("way"),
    ),
    Case(
        "zip-link-as-caption",
        lambda place: place.put("heap.zip", linked("set/way.txt", "/etc/passwd")),
        (run(*IMPORT, codes=(0,), says=("way.txt",)),),
        refused("way.txt"),
    ),
)
