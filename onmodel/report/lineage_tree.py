"""A lineage on a terminal: from the newest node down to the pictures, every step with its settings.

Each node is told once. Where it took part again, as in merges of merges, a line refers to where it
stands above.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

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
)  # under everything: told once, before the tree
# What a thing was made from comes before what led to its choice.
ORDER = (
    "weights",
    "checkpoint",
    "run",
    "merge",
    "model",
    "pictures",
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


def print_lineage(provenance: Provenance, console: Console) -> None:
    """Print what lies under everything, the tree, and the counts."""
    lineage: Lineage = _printable(provenance.lineage)
    for id in sorted(ordered(lineage), key=lambda id: lineage[id]["type"] != "character"):
        if lineage[id]["type"] in GROUND:
            console.print(_ground(lineage[id]))
    console.print(_tree(lineage, provenance.newest))
    told = [f"{name.replace('_', ' ')} {count}" for name, count in counts(lineage).items() if count]
    console.print(Text(printable(", ".join(told)), "dim"))


def _printable(value: Any) -> Any:
    """A history with every text on one line and without signs that a terminal obeys: anyone may
    have written it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _tree(lineage: Lineage, newest: str) -> Tree:
    told: set[str] = set()

    def grow(id: str, prefix: str) -> Tree:
        told.add(id)
        label = _label(lineage, id, prefix)
        tree, again = Tree(label, guide_style="dim"), []
        for parent, weight in _parents(lineage, id):
            if parent in told:
                again.append(weight + title_of(lineage, parent))
            else:
                tree.children.append(grow(parent, weight))
        if again:
            label.append(
                f"\n\N{UPWARDS ARROW} and, told above: {printable(', '.join(again))}", "cyan"
            )
        return tree

    return grow(newest, "")


def _parents(lineage: Lineage, id: str) -> list[tuple[str, str]]:
    """What a node was made from, best told first, with its weight in a merge; without what lies
    under everything."""
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


def _label(lineage: Lineage, id: str, prefix: str) -> Text:
    node = lineage[id]
    kind = WORDS.get(node["type"], printable(node["type"]))
    text = Text.assemble(
        prefix, (printable(title_of(lineage, id)), "bold"), f"  {kind} ", (printable(id[:8]), "dim")
    )
    if node.get("origin") == "unknown":
        text.append("\nunknown origin: nothing is recorded of how it was made", "yellow")
    for line in _facts(lineage, node):
        text.append(f"\n{printable(line)}")
    if settings := ", ".join(_settings(node.get("settings", {}))):
        text.append(f"\n{printable(settings)}", "dim")
    if claims := node.get("claims"):
        said = ", ".join(f"{key.partition('.')[2] or key} {value}" for key, value in claims.items())
        text.append(f"\nits header claims, unchecked: {printable(said)}", "dim italic")
    return text


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


def _ground(node: Node) -> Text:
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
    name = printable(node.get("name", ""))
    return Text.assemble(
        (f"{node['type']} ", "dim"), (name, "bold"), " " * ("name" in node), printable(said)
    )


def _settings(table: Mapping[str, Any]) -> Iterator[str]:
    """Settings as words; what is switched off or empty is left out, and what a step's facts tell in
    full."""
    for key, value in table.items():
        if key not in ("do", "data") and value not in (None, False, "", [], {}):
            yield f"{key} {in_words(value)}"
