"""The pictures that trainings drew between epochs, while they run and after their end."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onmodel.engine.project import KEY_DIGITS, Project
from onmodel.hashing import sha256_bytes

_NAME = re.compile(r"epoch-([0-9]{4,9})-([0-9]{2,9})\.png")


@dataclass(frozen=True, slots=True)
class PreviewPicture:
    """One prompt of a preview, drawn after an epoch. `id` is the SHA-256 of the file's place; a
    file there never changes."""

    id: str
    stage: str
    epoch: int
    prompt: int
    path: Path


def previews(project: Project) -> list[PreviewPicture]:
    """All previews of a project by stage, epoch and prompt."""
    stages = {key[:KEY_DIGITS]: stage for key, stage in project.ledger.stages().items()}
    found = [
        preview
        for key, folder in project.scratches().items()
        for preview in _in(folder / "out", stages.get(key, ""))
    ]
    for hash, stage in project.ledger.makers().items():
        found += _in(project.place(hash), stage)
    return sorted(found, key=lambda row: (row.stage, row.epoch, row.prompt))


def _in(folder: Path, stage: str) -> Iterator[PreviewPicture]:
    for path in (folder / "previews").glob("epoch-*.png"):
        if name := _NAME.fullmatch(path.name):
            place = f"{folder.parent.name}/{folder.name}/{path.name}"
            yield PreviewPicture(
                sha256_bytes(place.encode()), stage, int(name[1]), int(name[2]), path
            )
