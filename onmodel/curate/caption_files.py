"""Where the caption of a picture comes from: a file beside it, or a table of the folder.

Read are text files (`.txt`, `.caption`, `.tags`), JSON beside the picture, and the tables of
image folders and of other trainers (`TABLES`). Names are compared without case and Unicode form, as
`NAME.txt` and as `NAME.png.txt`.
"""

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from onmodel.curate.listing import Listing, by_folded_name
from onmodel.dataset.captions import Lines, join_lines, parse_caption, parse_lines
from onmodel.errors import InputError
from onmodel.paths import folded, leads_out
from onmodel.reading import decode_text, parse_json, parse_json_in, read_bytes, read_text
from onmodel.text import printable

TEXTS = (".txt", ".caption", ".tags")
SIDECARS = (*TEXTS, ".json")
# diffusion-pipe and DiffSynth; image folders of the Hugging Face `datasets` library; musubi-tuner;
# sd-scripts' fine tuning.
TABLES = (
    *("captions.json", "metadata.jsonl", "metadata.csv", "metadata.json", "captions.jsonl"),
    *("meta_clean.json", "meta_lat.json", "meta_cap_dd.json", "meta_cap.json"),
)
LARGEST_CAPTION = 2**20  # bytes that are read of one; parse_caption says how many it may have
_BLANK = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks and space
# The nine fields of the JSON captions of LoRA toolkits, in the order of a Danbooru caption.
_FIELDS = ("quality", "count", "character", "series", "artist", "appearance", "tags", "environment")
_WORDS = ("caption", "text", "prompt", "captions", "description")
_FILE = ("file_name", "image", "image_path", "file", "path", "filename")


@dataclass(frozen=True)
class FoundCaption:
    """A caption with its `source`, an ending or the name of a table. `several`: the source holds
    more than one, and this is the first."""

    source: str
    tags: str
    sentence: str
    several: bool = False


class CaptionFiles:
    """The captions of a folder. `used` and `unused` count pictures by source."""

    def __init__(self, listing: Listing, extension: str, lines: Lines, table_first: bool) -> None:
        self._listing, self._extension, self._lines = listing, extension, lines
        self._table_first = table_first
        self._names = by_folded_name([*listing.files, *listing.folders, *listing.doubtful])
        self._tables: dict[str, Mapping[str, Any]] = {}
        self._useless: set[str] = set()  # tables without a row about a picture of the folder
        self.notes: list[str] = []
        self.used: Counter[str] = Counter()
        self.unused: Counter[str] = Counter()
        self.several = 0
        self.seen: set[Path] = set()  # files that belong to a picture
        for name in TABLES:
            for path in self._names.get(name, ())[:1]:
                if not leads_out(path, listing.folder):
                    self._read_table(name, path)
        for path in tables_above(listing.folder):
            self._read_table_above(path)

    def beside(self, picture: Path) -> dict[str, Path]:
        """Ending → caption file of a picture, in the order of preference."""
        found: dict[str, Path] = {}
        for ending in dict.fromkeys((self._extension.lower(), *SIDECARS)):
            for name in (picture.stem + ending, picture.name + ending):
                paths = self._names.get(folded(name), ())
                if paths:
                    exact = [path for path in paths if path.name == name]
                    found.setdefault(ending, (exact or list(paths))[0])
        self.seen |= set(found.values())
        return found

    def of(self, picture: Path) -> FoundCaption | None:
        """The caption of a picture; None without one. Raises InputError or ValueError for a file
        that cannot be read."""
        files = self.beside(picture)
        rows = dict(self._rows(picture))
        order = [*rows, *files] if self._table_first else [*files, *rows]
        chosen = None
        empty = []
        for source in order:
            chosen = (
                self._from_row(source, rows[source])
                if source in rows
                else self._from_file(source, files[source], picture)
            )
            if chosen is not None:
                break
            empty.append(source)
        for source in order:
            if source in empty:
                self.unused[f"{source} without a caption"] += 1
            elif chosen is None or source != chosen.source:
                self.unused[source] += 1
        if chosen is not None:
            self.used[chosen.source] += 1
            self.several += chosen.several
        return chosen

    def summary(self) -> list[str]:
        """Lines about the sources: none where all captions come from the one that is named."""
        lines = list(self.notes)
        needed = "it needs the keys or columns file_name and text"
        lines += [
            f"{name} has no row about a picture here; {needed}" for name in sorted(self._useless)
        ]
        if set(self.used) - {self._extension.lower()} or self.unused:
            used = ", ".join(f"{n} from {source}" for source, n in sorted(self.used.items()))
            unused = ", ".join(f"{n} × {source}" for source, n in sorted(self.unused.items()))
            lines.append(
                f"captions: {used or 'none'}" + (f"; not used: {unused}" if unused else "")
            )
        if self.several:
            lines.append(f"{self.several} pictures have several captions; the first is used")
        return lines

    def _from_file(self, ending: str, path: Path, picture: Path) -> FoundCaption | None:
        if leads_out(path, picture.parent):
            raise ValueError(
                f"its caption {path.name} is a link out of its folder; put the file itself there"
            )
        data = read_bytes(path, "caption", LARGEST_CAPTION)
        if not data.strip(_BLANK):
            return None
        if ending != ".json":
            return FoundCaption(ending, *parse_caption(data, self._lines))
        try:
            value = parse_json(decode_text(data))
            found = self._from_row(ending, value)
        except ValueError as error:
            if self._extension.lower() == ending:
                raise ValueError(f"its caption {path.name} is not valid JSON ({error})") from error
            return None
        if found is None and self._extension.lower() == ending:
            raise ValueError(
                f"its caption {path.name} holds none of the keys caption, tags and nl; write"
                ' {"caption": "…"}'
            )
        return found

    def _from_row(self, source: str, value: Any) -> FoundCaption | None:
        captions = _alternatives(value)
        tags, sentence = _words_of(captions[0] if captions else None, self._lines)
        return FoundCaption(source, tags, sentence, len(captions) > 1) if tags or sentence else None

    def _rows(self, picture: Path) -> Iterator[tuple[str, Any]]:
        for name, table in self._tables.items():
            for key in (folded(picture.name), folded(picture.stem)):
                if key in table:
                    self._useless.discard(name)
                    yield name, table[key]
                    break

    def _read_table(self, name: str, path: Path) -> None:
        try:
            text = read_text(path, "captions")
            rows = list(_table_rows(path, name, text))
        except (InputError, csv.Error) as error:
            why = error.remedy if isinstance(error, InputError) else error
            self.notes.append(f"{name} is not read: {printable(why)}")
            return
        self.seen.add(path)
        self._useless.add(name)
        self._tables[name] = {folded(PurePosixPath(file).name): value for file, value in rows}

    def _read_table_above(self, path: Path) -> None:
        """The rows of a table beside the folder that are about files in it: image folders may have
        `metadata.jsonl` above `images/`."""
        with contextlib.suppress(InputError, csv.Error):
            rows = list(_table_rows(path, path.name, read_text(path, "captions")))
            places = [(PurePosixPath(file), value) for file, value in rows]
            here = self._listing.folder.resolve().name
            found = {folded(p.name): value for p, value in places if p.parent.name == here}
            if found:
                self._tables.setdefault(path.name, found)


def tables_above(folder: Path) -> list[Path]:
    """Tables of captions beside a folder."""
    paths = [folder.parent / name for name in TABLES]
    return [path for path in paths if path.is_file() and not leads_out(path, folder.parent)]


def _table_rows(path: Path, name: str, text: str) -> Iterator[tuple[str, Any]]:
    """(file, caption) of every row of a table. Raises InputError for a damaged one."""
    if name.endswith(".csv"):
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)  # spreadsheets write the one of their language
        rows: Any = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    elif name.endswith(".jsonl"):
        rows = _json_lines(path, text)
    else:
        rows = parse_json_in(text, path, "captions")
    if isinstance(rows, dict):
        yield from ((str(file).replace("\\", "/"), value) for file, value in rows.items())
        return
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict):
            file = next((row[key] for key in _FILE if isinstance(row.get(key), str)), None)
            if file:
                yield file.replace("\\", "/"), row


def _json_lines(path: Path, text: str) -> list[Any]:
    """The values of lines of JSON. Raises InputError with the number of a damaged one."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # a text may hold other ends of lines
        try:
            if line.strip():
                rows.append(parse_json(line))
        except ValueError as error:
            remedy = f"line {number} is not valid JSON ({error}); correct it"
            raise InputError("captions", path, remedy) from error
    return rows


def _alternatives(value: Any) -> Sequence[Any]:
    """The captions of one picture, where a row or a key of it holds a list of them."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for key in _WORDS:
            if isinstance(found := value.get(key), list):
                return [{**value, key: one} for one in found]
    return [value]


def _words_of(value: Any, lines: Lines) -> tuple[str, str]:
    """Tags and sentence of a JSON caption: text, or a table with the keys of a known form. Both are
    empty for another value."""
    if isinstance(value, str):
        return parse_lines(value, lines)
    if not isinstance(value, dict):
        return "", ""
    inner = value.get("ai_output")
    table = {**value, **inner} if isinstance(inner, dict) else value
    tags = ", ".join(word for key in _FIELDS for word in _listed(table.get(key)))
    if not tags and isinstance(table.get("tag_string"), str):  # Danbooru's own
        tags = ", ".join(table["tag_string"].split())
    text = next((table[key] for key in _WORDS if isinstance(table.get(key), str)), "")
    nl = table.get("nl")
    sentence = " ".join(nl.split()) if isinstance(nl, str) else ""
    if not tags:
        found, rest = parse_lines(text, lines)
        return found, rest or (sentence if found else "")
    sentence = sentence or " ".join(text.split())
    return (join_lines([tags, sentence], lines), "") if lines is not None else (tags, sentence)


def _listed(value: Any) -> Sequence[str]:
    """The tags in a text, a list, a table of lists, or a tagger's table of probabilities."""
    if isinstance(value, str):
        # Image boards put spaces between tags, and "_" within them.
        booru = "," not in value and "_" in value
        parts = value.split() if booru else value.split(",")
        return [word for part in parts if (word := " ".join(part.split()))]
    if isinstance(value, dict):
        scored = all(isinstance(inner, int | float) for inner in value.values())
        value = list(value if scored else value.values())
    if not isinstance(value, list):
        return []
    words: list[str] = []
    for inner in value:
        words += _listed(inner) if isinstance(inner, str | list) else []
    return words
