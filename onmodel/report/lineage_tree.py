"""A lineage as a tree: from the newest node down to the pictures, every step with its settings.

Each node has one branch. Where it took part again, as in merges of merges, a line refers to the
branch above.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from onmodel.ledger.lineage import Lineage, Node, ordered, title_of
from onmodel.release.history import origin_words, plan_words
from onmodel.release.provenance import Provenance, counts
from onmodel.report.lineage_svg import in_words
from onmodel.text import printable

GROUND = (
    "character",
    "base",
    "recipe",
    "code",
    "environment",
)  # shown once, before the tree
# What a thing was made from comes before what led to its choice.
ORDER = (
    "weights",
    "checkpoint",
    "run",
    "merge",
    "model",
    "pictures",
    "scenes",
    "dataset",
    "checkpoints",
    "selection",
    "evaluation",
)
WORDS = {
    "run": "training",
    "dataset": "data set",
    "weights": "released weights",
    "pictures": "generated pictures",
    "model": "file of others",
    "service": "model behind an address",
    "checkpoints": "all checkpoints",
}
SHORT = 12


@dataclass(frozen=True)
class Line:
    """A line below a branch's title, and what it is."""

    text: str
    role: Literal["fact", "setting", "claim", "warning", "reference"]


@dataclass(frozen=True)
class Branch:
    """One node: `weight` is its share in the merge above, "" elsewhere; `id` is shortened."""

    weight: str
    title: str
    kind: str
    id: str
    lines: Sequence[Line]
    children: "Sequence[Branch]"


@dataclass(frozen=True)
class Ground:
    """A node under everything, such as the base or the code, and its facts."""

    type: str
    name: str | None
    facts: str


@dataclass(frozen=True)
class LineageTree:
    """A whole lineage; every text is one printable line."""

    ground: Sequence[Ground]
    newest: Branch
    counts: Sequence[tuple[str, int]]


def history_of(provenance: Provenance) -> LineageTree:
    """The nodes that everything depends on, the tree below the newest node, and the counts."""
    lineage: Lineage = _printable(provenance.lineage)
    ids = sorted(ordered(lineage), key=lambda id: lineage[id]["type"] != "character")
    ground = [_ground(lineage[id]) for id in ids if lineage[id]["type"] in GROUND]
    counted = [
        (printable(name.replace("_", " ")), count)
        for name, count in counts(lineage).items()
        if count
    ]
    return LineageTree(ground, _tree(lineage, provenance.newest), counted)


def _printable(value: Any) -> Any:
    """A history with every text on one line and without signs that a terminal obeys: anyone may
    have written it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _tree(lineage: Lineage, newest: str) -> Branch:
    shown: set[str] = set()

    def grow(id: str, weight: str) -> Branch:
        shown.add(id)
        children, again = [], []
        for parent, share in _parents(lineage, id):
            if parent in shown:
                again.append(share + title_of(lineage, parent))
            else:
                children.append(grow(parent, share))
        lines = [*_lines(lineage, lineage[id])]
        if again:
            text = f"\N{UPWARDS ARROW} also, shown above: {', '.join(again)}"
            lines.append(Line(printable(text), "reference"))
        type = lineage[id]["type"]
        title, kind = printable(title_of(lineage, id)), WORDS.get(type, printable(type))
        return Branch(weight, title, kind, printable(id[:8]), lines, children)

    return grow(newest, "")


def _parents(lineage: Lineage, id: str) -> list[tuple[str, str]]:
    """The parents of a node, the most important first, each with its weight in a merge. Nodes that
    everything depends on are left out."""
    node = lineage[id]
    weights = {part["model"]: f"{part['weight']:.3g} × " for part in node.get("parts", ())}

    def rank(parent: str) -> tuple[int, str, int, str]:
        type = lineage[parent]["type"]
        title = title_of(lineage, parent).partition("@")[0]
        return (
            ORDER.index(type) if type in ORDER else len(ORDER),
            title,
            lineage[parent].get("epoch", 0),
            parent,
        )

    parents = sorted(
        (parent for parent in node["used"] if lineage[parent]["type"] not in GROUND), key=rank
    )
    if node["type"] == "checkpoints":  # a line for each would hide the rest
        parents = list(dict.fromkeys(run for parent in parents for run in lineage[parent]["used"]))
    return [(parent, weights.get(parent, "")) for parent in parents]


def _lines(lineage: Lineage, node: Node) -> Iterator[Line]:
    """The text of a branch about its node."""
    if node.get("origin") == "unknown":
        yield Line("unknown origin: nothing is recorded of how it was made", "warning")
    for fact in _facts(lineage, node):
        yield Line(printable(fact), "fact")
    if settings := ", ".join(_settings(node.get("settings", {}))):
        yield Line(printable(settings), "setting")
    if claims := node.get("claims"):
        said = ", ".join(f"{key.partition('.')[2] or key} {value}" for key, value in claims.items())
        yield Line(f"its header claims, unchecked: {printable(said)}", "claim")


def _facts(lineage: Lineage, node: Node) -> Iterator[str]:
    """What came out of a step."""
    match node["type"]:
        case "dataset":
            subsets = ", ".join(
                f"{name} {row['count']}"
                + (f" ({row['heldout']} held out)" if row.get("heldout") else "")
                for name, row in node["subsets"].items()
            )
            yield f"{subsets}; {origin_words(node)}; root {node['root'][:SHORT]}"
        case "run":
            precision = f" in {node['precision']}" if "precision" in node else ""
            yield f"{node['steps']} steps{precision} of {in_words(node['shares'])}"
        case "checkpoint" if "payload_sha256" in node:
            yield f"step {node['step']}; tensors {node['payload_sha256'][:SHORT]}"
        case "checkpoints":
            epochs = sorted(lineage[id]["epoch"] for id in node["used"] if "epoch" in lineage[id])
            yield f"epochs {', '.join(map(str, epochs))}"
        case "merge":
            kept = (
                "exact"
                if node.get("exact")
                else f"{100 * node['energy_kept']:.1f} % of the energy kept"
            )
            yield f"{node['method']}, rank {node['rank']}, alpha {node['alpha']:g}, {kept}"
        case "scenes":
            yield f"{node['count']} pictures described"
        case "pictures":
            yield f"{node['count']} generated, {node['kept']} kept"
        case "evaluation":
            plan = plan_words(node["signature"]).replace("`", "")
            yield f"{len(node['models'])} models {plan}"
        case "selection":
            yield f"chosen: {', '.join(node.get('models', ())) or len(node['chosen'])}"
        case "weights":
            yield (
                f"tensors {node['payload_sha256'][:SHORT]}"
                if "payload_sha256" in node
                else "frozen"
            )
        case "model":
            yield f"sha256 {node['sha256']}"
        case "service":
            yield node["address"]
        case "release":
            yield ", ".join(
                str(node[key]) for key in ("title", "date", "author", "license") if node.get(key)
            )


def _ground(node: Node) -> Ground:
    match node["type"]:
        case "character":
            sheet = node["sheet"]  # the fields that one verb reads
            outfits = f"{len(sheet['outfits'])} outfits" if "outfits" in sheet else ""
            parts = [f"{key} {sheet[key]}" for key in ("trigger", "rating") if key in sheet]
            said = ", ".join(filter(None, [*parts, outfits]))
        case "base":
            said = f"sha256 {node['sha256'][:SHORT]}"
        case "environment":
            libraries = ", ".join(f"{name} {version}" for name, version in node["packages"].items())
            said = f"Python {node['python']}, {node['system']} {node['machine']}, {libraries}"
        case _:
            said = ", ".join(
                f"{key} {value}"
                for key, value in node.items()
                if key not in ("type", "used", "name")
            )
    name = printable(node["name"]) if "name" in node else None
    return Ground(node["type"], name, printable(said))


def _settings(table: Mapping[str, object]) -> Iterator[str]:
    """Settings as words, without those that are off or empty and those that the facts of a step
    show."""
    for key, value in table.items():
        if key not in ("do", "data") and value not in (None, False, "", [], {}):
            yield f"{key} {in_words(value)}"
