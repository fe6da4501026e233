"""Where an observer's files lie: in a folder, or on the hub as
`hf://owner/name[@revision][/folder]`, fetched once into the hub's own cache. Its licence is what
the README.md beside the files, or of the repository, declares; nobody else may say under which
terms a model judges."""

import re
from dataclasses import dataclass
from pathlib import Path

from onmodel.errors import InputError
from onmodel.evaluate.observers.files import FILES, TOON_ASSETS, TOON_OWN
from onmodel.families.hub import fetch

SCHEME = "hf://"
PLACE = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+(?:@[\w.-]+)?)(?:/(?P<folder>[\w./-]*\w))?")
CARD = "README.md"


@dataclass(frozen=True)
class Source:
    """`named` tells it without a folder of this machine; `folder` has the files; `licence` as
    declared, if it is."""

    named: str
    folder: Path
    licence: str | None


def own(observer: str) -> Source:
    """The toon world's."""
    return Source("toon", TOON_ASSETS / TOON_OWN[observer], "mit")


def wrong(observer: str, named: str) -> InputError | None:
    """What can be seen to be wrong without a network: no place on the hub, no such folder, or files
    that it lacks."""
    if named.startswith(SCHEME):
        how = "write hf://owner/name, hf://owner/name/folder or hf://owner/name@revision/folder"
        return None if PLACE.fullmatch(named) else InputError(observer, named, how)
    if not Path(named).is_dir():
        return InputError(observer, named, "no such folder")
    lacking = [file for file in FILES[observer] if not (Path(named) / file).is_file()]
    if lacking:
        return InputError(observer, named, f"has no {', '.join(lacking)}")
    from onmodel.evaluate.observers.onnx import check_files  # imports numpy

    try:
        check_files(observer, [Path(named) / file for file in FILES[observer]])
    except InputError as error:
        return error
    return None


def find(observer: str, named: str) -> Source:
    """An observer of FILES in a folder or on the hub, from where only its files and the card come.

    Raises InputError for what `wrong` tells, or when the hub does not give it.
    """
    if error := wrong(observer, named):
        raise error
    place = PLACE.fullmatch(named)
    if place is None:
        folder = Path(named)
        return Source(folder.resolve().name, folder, _licence(folder / CARD))
    prefix = f"{place['folder']}/" if place["folder"] else ""
    root = fetch(
        observer, place["repository"], [CARD, *(prefix + file for file in FILES[observer])]
    )
    assert root is not None
    if lacking := [
        prefix + file for file in FILES[observer] if not (root / prefix / file).is_file()
    ]:
        raise InputError(observer, named, f"has no {', '.join(lacking)}")
    return Source(named, root / prefix, _licence(root / CARD))


def content(observer: str, named: str) -> list[str | None]:
    """What decides what an observer says, without the path: its licence and the hashes of its
    files.

    Raises what `find` raises.
    """
    from onmodel.evaluate.observers.onnx import hashes  # imports numpy

    source = find(observer, named)
    return [source.licence, *hashes(observer, [source.folder / file for file in FILES[observer]])]


def _licence(card: Path) -> str | None:
    """`license` of a model card's front matter, by its own name where it is called "other"."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    try:
        facts = (metadata_load(card) if card.is_file() else None) or {}
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):
        return None
    licence = (
        facts.get("license_name", "other")
        if facts.get("license") == "other"
        else facts.get("license")
    )
    return licence if isinstance(licence, str) else None
