"""Run a release's recipe again in a fresh project and hold every stage against what the release's
history says.

The recipe is read from the history itself. What it can not hold — private pictures, files of
others, a base that does not ship with onmodel — is looked up in the ledger of the project that made
the release; without it, the stages that need it are left out, and said so.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onmodel.character import parse_character
from onmodel.engine import local
from onmodel.engine.plan import base_of
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import read_json
from onmodel.ledger import versions
from onmodel.ledger.environment import code, environment
from onmodel.ledger.lineage import Lineage, Node, facts_of_others, ordered, root
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.release.folder import LINEAGE, Statement
from onmodel.release.provenance import Provenance
from onmodel.stages import VERBS, stage_module
from onmodel.stages.base import StageSettings
from onmodel.toon.base import TOON_BASES

# Facts that hold the hash of a whole file. A file's header holds its history, so they change with
# the code and the environment even where the tensors are the same.
# What stands for the parts of a recipe that none of its stages read.
HEAD = {"seed": 0, "date": "1970-01-01", "threads": 1}
SHEET = {
    "name": "unknown",
    "trigger": "unknown",
    "tags": [],
    "description": "",
    "free": [],
    "palette": {},
    "outfits": [],
    "author": {"name": "unknown"},
    "license": "unknown",
    "rating": "safe",
}
COMPUTED = frozenset({"content", "says"})  # settings that are read from files
HASHES_OF_FILES = frozenset(
    {"used", "chosen", "model_sha256", "origins", "parts", "evaluation_sha256", "files"}
)


@dataclass
class Rebuilt:
    """`same`: stages with their verdict, in order; `differs`: the first that differs, and in what;
    `left_out`: stage → why it was not run; `ground`: what else than the recipe is not as it was."""

    same: dict[str, str] = field(default_factory=dict)
    differs: tuple[str, str] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    ground: list[str] = field(default_factory=list)


def rebuild(
    release: Provenance, fresh: Callable[[], Project], maker: Project | None, events: Events
) -> Rebuilt:
    """Run stage by stage until one differs. Killed, the same call goes on where it stopped. `fresh`
    makes the project to build in, once it is clear that something can be built.

    Raises InputError when the release holds no recipe, or nothing of it can be run here.
    """
    with facts_of_others(f"the history of {release.name}"):
        own = _own_nodes(release.lineage)
        _check_shape(release.name, own)
        stages: dict[str, str] = {}
        for id in ordered(own):
            if _verb(own[id]):
                stages.setdefault(
                    _stage_name(own[id]), id
                )  # a search comes before the merge that it made
        recipe, left_out = _recipe(release, own, stages, maker)
        found = Rebuilt(left_out=left_out, ground=_ground(own))
        base = _single(release.name, own, "base")["sha256"]
        products = {
            name: {
                id: own[id]
                for id in own
                if id == stages[name] or _is_product(own, id, stages[name])
            }
            for name in recipe.stages
        }
    here = base_of(recipe, events)[1]
    if here != base:
        found.differs = ("base", f"{recipe.base_name} is {here[:12]}, was {base[:12]}")
        return found
    project = fresh()
    with project.writing():
        for name in recipe.stages:
            artifact = local.run(recipe, project, events, until=name).artifacts[name]
            wanted = products[name]
            other = _first_difference(wanted, read_json(artifact.path / LINEAGE))
            if other is None and artifact.kind == "release":
                other = _first_file(release, artifact)
            if other:
                found.differs = (name, other)
                break
            exact = set(wanted) <= set(read_json(artifact.path / LINEAGE))
            found.same[name] = (
                "the same bytes" if exact else "the same content under another history"
            )
    return found


def _own_nodes(lineage: Lineage) -> Lineage:
    """The nodes that the release's own recipe made: nothing below a file of others."""
    found: Lineage = {}
    todo = [root(lineage)]
    while todo:
        id = todo.pop()
        if id not in found:
            found[id] = lineage[id]
            todo += lineage[id]["used"] if lineage[id]["type"] != "model" else []
    return found


def _check_shape(name: str, own: Lineage) -> None:
    """Raise InputError for nodes that onmodel would not write: hashes that match say nothing of
    what is hashed."""
    for node in own.values():
        settings = node.get("settings", {"do": "train"})
        if not isinstance(settings, dict) or settings.get("do") not in tuple(VERBS):
            fault = "the settings of a stage"
        elif node["type"] == "recipe" and not node.keys() <= {"type", "used", *HEAD}:
            fault = "the head of a recipe"
        elif node["type"] == "character" and not isinstance(node.get("sheet"), dict):
            fault = "a character"
        elif node["type"] in ("base", "model") and not isinstance(node.get("sha256"), str):
            fault = f"a {node['type']}"
        elif not isinstance(node.get("packages", {}), dict):
            fault = "an environment"
        else:
            continue
        raise InputError("release", name, f"its history holds {fault} that onmodel does not write")


def _single(name: str, own: Lineage, type: str) -> Node:
    found = [node for node in own.values() if node["type"] == type]
    if len(found) != 1:
        raise InputError(
            "release", name, f"its history names {len(found)} times a {type}; one can be run again"
        )
    return found[0]


def _verb(node: Node) -> str | None:
    """The stage's verb that made a node; None for what is no stage's own node."""
    if node["type"] == "model":
        return "import"
    return str(node["settings"]["do"]) if "settings" in node else None


def _stage_name(node: Node) -> str:
    return str(node.get("stage") or node.get("name") or node["sha256"][:12])


def _recipe(
    release: Provenance, own: Lineage, stages: Mapping[str, str], maker: Project | None
) -> tuple[Recipe, dict[str, str]]:
    """The recipe as far as it can be run here, and why the other stages can not."""
    head, sheet = _read_parts(release.name, own)
    base = _single(release.name, own, "base")
    tables: dict[str, dict[str, object]] = {}
    left_out: dict[str, str] = {}
    bases: list[Any] = [base["name"]] if base.get("name") in tuple(TOON_BASES) else []
    for name, id in stages.items():
        settings, missing, found_base = _settings(name, own[id], maker)
        bases += [found_base] if found_base not in (None, *TOON_BASES) else []
        blocked = (
            [needed for needed in _needs(settings) if needed not in tables] if settings else []
        )
        if missing:
            left_out[name] = missing
        elif blocked:
            left_out[name] = f"needs {blocked[0]}"
        elif settings:
            tables[name] = settings.model_dump(round_trip=True)
    if not bases:
        raise InputError(
            "base",
            base.get("name"),
            "does not ship with onmodel; name the project that has it with --project",
        )
    if not tables:
        raise InputError(
            "release",
            release.name,
            f"nothing of it can be run here: {next(iter(left_out.values()))}",
        )
    character = parse_character(sheet, release.name)
    return (
        Recipe(
            release.name,
            character,
            bases[0],
            head["seed"],
            head["date"],
            head["threads"],
            tables,
            "",
        ),
        left_out,
    )


def _read_parts(name: str, own: Lineage) -> tuple[Node, dict[str, object]]:
    """The recipe's head and the sheet, joined from what each stage read of them. A release holds
    all of both; what no stage read is filled in, since it changes no byte.

    Raises InputError unless they are parts of one recipe.
    """
    head: Node = {}
    sheet: dict[str, object] = {}
    parts = [(head, node) for node in own.values() if node["type"] == "recipe"]
    count = min(len(parts), 1)
    parts += [(sheet, node["sheet"]) for node in own.values() if node["type"] == "character"]
    for joined, part in parts:
        for key, value in part.items():
            if key not in ("type", "used") and joined.setdefault(key, value) != value:
                count = 2
    if count != 1:
        remedy = f"its history holds {count or 'no'} recipes; one can be run again"
        raise InputError("release", name, remedy)
    return HEAD | head, SHEET | sheet


def _settings(
    name: str, node: Node, maker: Project | None
) -> tuple[StageSettings | None, str, Any]:
    """A stage's settings with the paths of this machine, what is missing ("" when nothing is), and
    the maker's base."""
    verb = str(_verb(node))
    kind: type[StageSettings] = stage_module(verb).Settings
    told = node.get("settings") or {"do": verb, "file": f"{name}.safetensors"}
    if maker:
        for table, base in maker.ledger.sources(name):
            settings = _parsed(kind, _without_computed(table))
            if settings and (settings.told() == told or verb == "import"):
                gone = [path for path in _paths(settings.model_dump()) if not path.exists()]
                return (
                    settings,
                    f"needs {gone[0]}, which is not found from here" if gone else "",
                    base,
                )
    settings = _parsed(kind, told)
    if settings is None:
        return None, "its settings are of another version of onmodel", None
    private = ", ".join(str(path) for path in _paths(settings.model_dump()))
    return (
        settings,
        (
            f"needs {private}, which no release holds; --project DIR names who has it"
            if private
            else ""
        ),
        None,
    )


def _parsed(kind: type[StageSettings], table: Mapping[str, object]) -> StageSettings | None:
    try:
        return kind.model_validate(table)
    except ValidationError:
        return None


def _without_computed(value: Any) -> Any:
    """Settings as the ledger has them, less the hashes of files' contents that it noted with
    them."""
    if isinstance(value, dict):
        return {
            key: _without_computed(inner) for key, inner in value.items() if key not in COMPUTED
        }
    return [_without_computed(inner) for inner in value] if isinstance(value, list) else value


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner)


def _needs(settings: StageSettings) -> list[str]:
    return [reference.partition("@")[0] for reference in settings.needs()]


def _ground(own: Lineage) -> list[str]:
    """What differs in code and environment from those that the history tells."""
    said = []
    for id in ordered(own):
        node = own[id]
        if node["type"] == "code":
            verb = node.get("verb")
            here = code(verb) if verb in tuple(versions.VERBS) else {}
        elif node["type"] == "environment":
            here = environment()
        else:
            continue
        was, now = _flat(node), _flat(here[root(here)]) if here else {}
        said += [
            f"{key}: {now.get(key)}, was {was[key]}" for key in was if was[key] != now.get(key)
        ]
    return list(dict.fromkeys(said))


def _flat(node: Node) -> dict[str, str]:
    rows = {
        key: value for key, value in node.items() if key not in ("type", "used", "name", "packages")
    }
    return {key: str(value) for key, value in {**rows, **node.get("packages", {})}.items()}


def _is_product(own: Lineage, id: str, stage: str) -> bool:
    """Whether a node is one of the checkpoints that a training left, or the merge that a search or
    a tuning made."""
    kinds = {"run": "checkpoint", "search": "merge", "selection": "merge"}
    node, maker = own[id], own[stage]
    named = (
        node.get("name", maker["name"]) == maker["name"]
    )  # a merge of what was chosen has its own
    return node["type"] == kinds.get(maker["type"]) and stage in node["used"] and named


def _first_difference(wanted: Lineage, made: Lineage) -> str | None:
    """The first node of a stage whose content the new history does not have, in words."""
    for id, node in wanted.items():
        if id in made:
            continue
        where = f"epoch {node['epoch']}" if "epoch" in node else node["type"]
        same_kind = [
            new for new in made.values() if new["type"] == node["type"] and _key(new) == _key(node)
        ]
        if not same_kind:
            return f"{where}: was not made"
        new = same_kind[-1]
        differing = [
            f"{key} is {_short(new.get(key))}, was {_short(was)}"
            for key, was in _content(node).items()
            if new.get(key) != was
        ]
        if differing:
            return f"{where}: {', '.join(differing)}"
    return None


def _key(node: Node) -> tuple[Any, ...]:
    return node.get("name"), node.get("epoch"), node.get("step")


def _content(node: Node) -> dict[str, object]:
    """A node's facts without the hashes of whole files."""
    skipped = HASHES_OF_FILES | ({"models"} if node["type"] == "evaluation" else set())
    return {key: value for key, value in node.items() if key not in skipped}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "\N{HORIZONTAL ELLIPSIS}"


def _first_file(release: Provenance, artifact: Artifact) -> str | None:
    """The first file of the released folder that has other bytes; only where the histories are the
    same."""
    (folder,) = [path.parent for path in artifact.path.glob(f"*/{LINEAGE}")]
    made = Statement.from_bytes((folder / LINEAGE).read_bytes())
    if root(made.lineage) != release.newest:
        return None
    for name in sorted({*release.files, *made.files}):
        if release.files.get(name) != made.files.get(name):
            return f"{name} has other bytes"
    return None
