"""The one gate from a name to a file inside a folder. Names come from recipes, model sheets, zips
and releases.

A name that passes is a plain file name on Linux, macOS and Windows alike, so a project can be moved
between them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from onmodel.errors import InputError
from onmodel.text import is_printable, printable

LONGEST_NAME = 120  # bytes of UTF-8; file systems end at 255, and suffixes and epochs are added
LONGEST_PATH = 1_024  # bytes of UTF-8 of all parts of a name
_FORBIDDEN = frozenset('/\\<>:"|?*')
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)


def check_name(name: str, field: str, longest: int = LONGEST_NAME) -> str:
    """`name` if it can name a file on every system. Raises InputError naming `field` and what is
    wrong."""
    why = name_fault(name, longest)
    if why:
        raise InputError(field, repr(name) if len(name) <= 80 else repr(name[:60]) + "…", why)
    return name


def check_distinct(names: Iterable[str], field: str) -> None:
    """Raise InputError where two names are one file on a system that ignores case or Unicode
    form."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other is not name and other != name:
            raise InputError(
                field,
                f"{other!r} and {name!r}",
                "are one file on Windows and macOS; rename one of them",
            )


def inside(folder: Path, name: str, field: str) -> Path:
    """The path of `name` in `folder`; `/` may divide it into parts, each of which must pass
    `check_name`.

    Raises InputError for a name that leads out of the folder, through a link as well.
    """
    parts = name.split("/")
    why = next((fault for part in parts if (fault := name_fault(part, 255))), None)
    if why is None and len(name.encode("utf-8", "replace")) > LONGEST_PATH:
        why = f"longer than {LONGEST_PATH} bytes"
    path = folder.joinpath(*parts) if why is None else folder
    if why is None and not path.resolve().is_relative_to(folder.resolve()):
        why = "leads out of its folder through a link"
    if why:
        raise InputError(field, printable(name[:200]), why)
    return path


def name_fault(name: str, longest: int = LONGEST_NAME) -> str | None:
    """What keeps `name` from being the name of one file, as a remedy in words; None when nothing
    does."""
    if not isinstance(name, str) or not name.strip():
        return "write a name of one letter or more"
    if name in (".", ".."):
        return "write a name, not the way to a folder"
    if not is_printable(name):
        return "leave out control characters and characters that are not shown"
    if bad := sorted(_FORBIDDEN & set(name)):
        return f"leave out {' '.join(bad)}, which cannot stand in a file name"
    if name != name.strip() or name.endswith("."):
        return "leave out the space or dot at its ends"
    if name.startswith((".", "-", "~")):
        return f"begin it with another sign than {name[0]!r}"
    if name.partition(".")[0].strip().casefold() in _RESERVED:
        return "choose another; Windows keeps this name for a device"
    if len(name.encode()) > longest:
        return f"use at most {longest} bytes"
    return None


def writable(name: str, longest: int = LONGEST_NAME) -> str:
    """`name` as one that passes `check_name`, with room for a number: what cannot stand in a file
    name becomes "_"."""
    text = "".join(
        "_" if sign in _FORBIDDEN or not is_printable(sign) else sign for sign in name
    ).strip()
    text = re.sub(r"[\s.]+$", "", text.encode()[: longest - 8].decode(errors="ignore"))
    return f"_{text}" if name_fault(text, longest) else text


class Names:
    """Names of files, each once, whatever names are asked for."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._asked: Counter[str] = Counter()

    def free(self, name: str) -> str:
        """`name` as it can be written; a number follows where it is taken."""
        name = found = writable(name)
        while folded(found) in self._taken:
            self._asked[name] += 1
            found = f"{name}-{self._asked[name] + 1}"
        self._taken.add(folded(found))
        return found


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path` is a link to something outside `folder`, to nothing, or to itself."""
    try:
        return path.is_symlink() and not path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return True


def folded(name: str) -> str:
    """The form under which two names are the same file where case and Unicode form do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
