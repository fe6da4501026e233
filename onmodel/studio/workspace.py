"""The folder that the studio works in, and the characters in it.

WORKSPACE/NAME/recipe.toml      as `onmodel init` writes it; character.toml beside it
WORKSPACE/NAME/pictures/        what was dropped into the browser
WORKSPACE/NAME/data/            the data set in the making (`onmodel dataset import`)
WORKSPACE/NAME/project/         the project of the recipe (`onmodel run`)
WORKSPACE/.studio/              thumbnails and the queue

A folder of the workspace that is a project itself (it has a ledger) is shown too: a project that
was made at the terminal. The browser names characters by ids, never by paths.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.engine.project import LEDGER, Project
from onmodel.errors import InputError
from onmodel.hashing import sha256_bytes
from onmodel.paths import check_name, inside

ID_DIGITS = 12
OWN = ".studio"


@dataclass(frozen=True)
class CharacterFolder:
    """A character of the workspace: its folder, whatever of it is there."""

    id: str
    name: str
    folder: Path

    @property
    def recipe(self) -> Path | None:
        """Its recipe; None for a project whose recipe lies elsewhere."""
        path = self.folder / "recipe.toml"
        return path if path.is_file() else None

    @property
    def sheet(self) -> Path:
        return self.folder / "character.toml"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def project_folder(self) -> Path:
        own = (self.folder / LEDGER).is_file()
        return self.folder if own else self.folder / "project"

    @property
    def started(self) -> bool:
        """Whether something of it was ever run."""
        return (self.project_folder / LEDGER).is_file()

    @property
    def project(self) -> Project:
        """The project, opened for this thread; check `started` first, since opening makes the
        folder."""
        return Project(self.project_folder)


@dataclass(frozen=True)
class Workspace:
    """Characters by id. `roots` are other folders of this machine that new characters may be made
    from."""

    folder: Path
    roots: tuple[Path, ...] = ()

    @property
    def own(self) -> Path:
        """The studio's own files."""
        path = self.folder / OWN
        path.mkdir(exist_ok=True)
        return path

    def characters(self) -> list[CharacterFolder]:
        """Every character and every project, by name."""
        return sorted(self._found(), key=lambda found: found.name.casefold())

    def character(self, id: str) -> CharacterFolder:
        """The character with this id. Raises InputError for an id that no folder has."""
        for found in self._found():
            if found.id == id:
                return found
        raise InputError("character", id, "is not in this workspace; it may have been moved away")

    def new(self, name: str) -> CharacterFolder:
        """An empty folder for a new character. Raises InputError for a name that cannot be a
        folder's, or that is taken."""
        folder = inside(self.folder, check_name(name, "name"), "name")
        try:
            folder.mkdir()
        except FileExistsError:
            raise InputError("name", name, "is taken; choose another") from None
        return _character(folder)

    def _found(self) -> Iterator[CharacterFolder]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                    continue
                folder = Path(entry.path)
                known = _is_file(folder / "recipe.toml") or _is_file(folder / LEDGER)
                if known or (folder / "pictures").is_dir():  # a character that is being made
                    yield _character(folder)


def open_workspace(folder: Path, roots: Sequence[Path] = ()) -> Workspace:
    """The workspace in a folder. Raises InputError for what is no folder, or cannot be written."""
    for root in roots:
        if not root.is_dir():
            raise InputError("--root", root, "is not a folder; name another")
    if not folder.is_dir():
        raise InputError("FOLDER", folder, "is not a folder; make it, or name another")
    if not os.access(folder, os.W_OK):
        raise InputError("FOLDER", folder, "cannot be written; check its permissions")
    return Workspace(folder.resolve(), tuple(root.resolve() for root in roots))


@dataclass(frozen=True)
class ShownProject:
    """A workspace, and one of its characters."""

    workspace: Workspace
    character: CharacterFolder


def workspace_with(project: Path) -> ShownProject:
    """The workspace that a project lies in. Raises InputError for one that no workspace can
    show."""
    folder = project.resolve()
    if (folder.parent / "recipe.toml").is_file() and folder.name == "project":
        folder = folder.parent
    workspace = open_workspace(folder.parent)
    return ShownProject(workspace, workspace.character(_character(folder).id))


def _character(folder: Path) -> CharacterFolder:
    id = sha256_bytes(folder.name.encode("utf-8", "surrogateescape"))[:ID_DIGITS]
    return CharacterFolder(id, folder.name, folder)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
