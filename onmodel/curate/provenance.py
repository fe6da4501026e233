"""provenance.json: the origin and rights of each picture of a folder, the source of its tags and
sentence, and the lineage of the models that made generated ones.

Export writes it; import and the curate stage read it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.errors import InputError, VerifyError
from onmodel.ledger.lineage import Lineage, ancestors, check
from onmodel.reading import read_json_of_others

NAME = "provenance.json"
LARGEST = 256 * 2**20  # bytes; it has a row for each picture
SELF_TAUGHT = 0.5  # share of a subset from which self-training is warned of
GENERATED = "generated:"  # origin of a picture that a model made; the model's SHA-256 follows


@dataclass(frozen=True)
class KnownPicture:
    """A picture's row of provenance.json. It applies to a file with these bytes (`sha256`) only.

    `background` is the colour (#rrggbb) behind transparent pixels, "" without any. `told` is the
    source of the sentence, `tags` maps each tag to its source, `made` holds the generator's
    settings.
    """

    sha256: str
    origin: str
    rights: str
    told: str
    background: str
    tags: Mapping[str, str]
    made: Mapping[str, object]


@dataclass(frozen=True)
class Known:
    """`pictures`: `folder/file` → its row; `models`: SHA-256 → lineage of models that made some."""

    pictures: Mapping[str, KnownPicture] = field(default_factory=dict)
    models: Mapping[str, Lineage] = field(default_factory=dict)

    def of(self, path: Path) -> KnownPicture | None:
        """The row of a file, found by its name; None without one. Compare its `sha256` with the
        file's."""
        return self.pictures.get(f"{path.parent.name}/{path.name}")


def read_known(folder: Path) -> Known:
    """Read the provenance.json beside or above the pictures of `folder`; empty without one.

    Raises InputError when it is damaged or a lineage in it does not match its hashes.
    """
    path = known_at(folder)
    if path is None:
        return Known()
    if path.is_symlink():
        raise InputError("provenance", path, "is a link; put the file itself there, or remove it")
    table = read_json_of_others(path, "provenance", LARGEST)
    try:
        pictures = {str(name): _picture(dict(row)) for name, row in table["pictures"].items()}
        models = dict(table["models"])
        for sha256, lineage in models.items():
            if not re.fullmatch("[0-9a-f]{64}", sha256):  # it becomes a file's name
                raise ValueError(f"{sha256!r} is no SHA-256")
            _check_nodes(lineage)
            check(lineage)
    except (ValueError, KeyError, TypeError, AttributeError, VerifyError) as error:
        why = str(error)[:200]
        raise InputError(
            "provenance", path, f"is damaged ({why}); remove it, or export again"
        ) from error
    return Known(pictures, models)


def _picture(row: dict[str, object]) -> KnownPicture:
    """A checked row. Raises ValueError, KeyError or TypeError for one that is damaged."""
    texts: dict[str, str] = {}
    keys = {"sha256": "sha256", "origin": "origin", "rights": "rights", "told": "told"}
    for key, name in (keys | {"paper": "background"}).items():
        value = row[key]
        if not isinstance(value, str):
            raise ValueError("origins and rights are text")
        texts[name] = value
    background = texts["background"]
    if background and not re.fullmatch("#[0-9a-f]{6}", background):
        raise ValueError(f"the background {background!r} is not a colour")
    tags, made = dict(row["tags"]), dict(row["made"])  # type: ignore[call-overload]
    if not all(isinstance(text, str) for text in (*tags, *tags.values())):
        raise ValueError("tags and their sources are text")
    return KnownPicture(**texts, tags=tags, made=made)


def _check_nodes(lineage: Lineage) -> None:
    """Raise ValueError for a node of another form than this package writes. A matching hash does
    not rule that out."""
    for node in lineage.values():
        texts = [
            node["type"],
            *(node[key] for key in ("sha256", "name") if key in node),
            *node["used"],
        ]
        tables = [node.get(key, {}) for key in ("sheet", "claims")]
        if node["type"] == "model":
            texts.append(node["sha256"])
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(table, dict) for table in tables
        ):
            raise ValueError("a node of a lineage has another form")


def known_at(folder: Path) -> Path | None:
    """The provenance.json that covers the pictures of a folder; None without one."""
    return next((place for place in (folder / NAME, folder.parent / NAME) if place.is_file()), None)


def model_of(origin: str) -> str:
    """SHA-256 of the model that made a picture; "" for a picture that no model made."""
    return origin.removeprefix(GENERATED) if origin.startswith(GENERATED) else ""


def makers_of(origins: Iterable[str], folders: Iterable[Path]) -> dict[str, Lineage]:
    """SHA-256 → lineage of the models that made pictures, as far as the provenance.json of the
    folders has it."""
    models: dict[str, Lineage] = {}
    for folder in folders:
        models |= read_known(folder).models
    made = set(map(model_of, origins))
    return {sha256: models[sha256] for sha256 in sorted(made & models.keys())}


def own_ancestors(
    parents: Collection[Lineage], makers: Mapping[str, Lineage], trigger: str, base_sha256: str
) -> set[str]:
    """SHA-256 of the models whose pictures would be self-training: the base, models of this trigger
    in `makers` or `parents`, and the models behind generated pictures of `parents`."""
    models, own = dict(makers), {base_sha256}
    for lineage in parents:
        for id, node in lineage.items():
            if node["type"] == "model":
                models[node["sha256"]] = ancestors(lineage, id)
            elif node["type"] == "pictures":
                own.add(node.get("model_sha256", ""))
    return own | own_models(models, trigger, base_sha256)


def own_models(models: Mapping[str, Lineage], trigger: str, base_sha256: str = "") -> set[str]:
    """SHA-256 of the `models` that are ancestors of the next training: LoRAs of this trigger, and
    bases.

    The trigger is that of the model sheet in the lineage, or the one that an imported file's header
    claims. Every base counts, unless `base_sha256` names the one that is trained on.
    """
    found = set()
    for sha256, lineage in models.items():
        for node in lineage.values():
            sheet = node.get("sheet", {}).get("trigger")
            claimed = node.get("claims", {}).get("modelspec.trigger_phrase")
            based = node["type"] == "base" and node.get("sha256") == sha256
            if trigger in (sheet, claimed) or (based and base_sha256 in ("", sha256)):
                found.add(sha256)
    return found


@dataclass(frozen=True)
class SelfTaught:
    """Counts of a subset: all pictures, those that a model made, and those that an ancestor of the
    training made."""

    pictures: int
    generated: int
    own: int

    @property
    def share(self) -> float:
        return self.own / self.pictures if self.pictures else 0.0


def self_taught(
    subsets: Sequence[str], origins: Sequence[str], own: set[str]
) -> dict[str, SelfTaught]:
    """Subset → its counts. `subsets` and `origins` have one entry per picture."""
    found = {}
    for subset in dict.fromkeys(subsets):
        made = [
            model_of(origin)
            for name, origin in zip(subsets, origins, strict=True)
            if name == subset
        ]
        found[subset] = SelfTaught(
            len(made), sum(map(bool, made)), sum(one in own for one in made if one)
        )
    return found
