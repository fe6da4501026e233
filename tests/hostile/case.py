"""A hostile input: how it is built, the commands that meet it, and what must then be so."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHEET = ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml"
SECRET = "this line lies outside of every folder that a command was given"

Command = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """The folders of a case. Commands may write below `out` only; the rest must stay as it is."""

    root: Path

    @property
    def given(self) -> Path:
        return self.root / "in"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def elsewhere(self) -> Path:
        """A folder that no command names. It holds `secret.txt`; hostile names lead to `pwned`."""
        return self.root / "elsewhere"

    @property
    def pwned(self) -> Path:
        return self.elsewhere / "pwned"

    def make(self) -> "Place":
        for name in ("in", "out", "elsewhere", "home", "tmp", "cwd"):
            (self.root / name).mkdir(parents=True)
        (self.elsewhere / "secret.txt").write_text(SECRET, encoding="utf-8")
        return self

    def put(self, name: str | bytes, data: bytes | str = b"", *, below: str = "") -> None:
        """Write a file of `in`, whatever bytes its name has."""
        folder = self.given / below
        folder.mkdir(parents=True, exist_ok=True)
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def filled(self, words: Command) -> list[str]:
        """A command with paths for {in}, {out}, {elsewhere} and {sheet} (the shipped one)."""
        names = {
            "{in}": self.given,
            "{out}": self.out,
            "{elsewhere}": self.elsewhere,
            "{sheet}": SHEET,
        }
        filled = []
        for word in words:
            for name, path in names.items():
                word = word.replace(name, str(path))
            filled.append(word)
        return filled

    def snapshot(self) -> Mapping[bytes, tuple[object, ...]]:
        """Every file outside of `out`, as far as a change of it would show."""
        found: dict[bytes, tuple[object, ...]] = {}
        todo = [os.fsencode(self.root)]
        while todo:
            folder = todo.pop()
            if len(folder) > 3_500:  # deeper than a path can name
                continue
            for entry in os.scandir(folder):
                if entry.path == os.fsencode(self.out):
                    continue
                facts = entry.stat(follow_symlinks=False)
                size = 0 if entry.is_dir(follow_symlinks=False) else facts.st_size
                changed = 0 if entry.is_dir(follow_symlinks=False) else facts.st_mtime_ns
                found[entry.path] = (facts.st_mode, size, changed, facts.st_ino)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
        return found


@dataclass(frozen=True)
class Run:
    """One command of a case. `codes`: the right exit codes; `says`: words that it must print.

    `findings`: the command reports faults on stdout (doctor, release check), not on stderr.
    """

    words: Command
    codes: frozenset[int] = frozenset({2})
    says: tuple[str, ...] = ()
    findings: bool = False


@dataclass(frozen=True)
class Case:
    """A hostile input. Between its runs, a function may damage what a command wrote.

    `then` looks at what the commands left behind and returns what is wrong about it.
    """

    id: str
    build: Callable[[Place], object]
    runs: tuple[Run | Callable[[Place], object], ...]
    then: Callable[[Place], list[str]] = lambda place: []


def run(
    *words: str, codes: tuple[int, ...] = (2,), says: tuple[str, ...] = (), findings: bool = False
) -> Run:
    return Run(words, frozenset(codes), says, findings)
