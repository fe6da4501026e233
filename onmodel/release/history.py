"""The recorded history in words, for the card: data sets, trainings, merges and their order.

Only the lineage is read, so the release can prove everything on the card. Pictures appear as counts
and roots only.
"""

from collections.abc import Callable, Iterator, Mapping

from onmodel.ledger.lineage import Lineage, Node, ordered, title_of
from onmodel.lora.methods import METHODS
from onmodel.text import code_span, markdown

ORIGINS = {"toon": "drawn", "folder": "given", "generated": "generated"}


def data_rows(lineage: Lineage) -> list[dict[str, object]]:
    """A row for each subset of each data set: counts, and each training that used it as repeats ×
    epochs."""
    rows: list[dict[str, object]] = []
    for id, node in _of_type(lineage, "dataset"):
        for subset, counts in node["subsets"].items():
            uses = [
                f"{code_span(run['name'])} {share['repeats']} × {run['settings']['epochs']}"
                for run, share in _uses(lineage, id, subset)
            ]
            rows.append(
                {
                    "dataset": title_of(lineage, id),
                    "root": node["root"][:12],
                    "subset": subset,
                    "count": counts["count"],
                    "heldout": counts["heldout"],
                    "uses": uses,
                }
            )
    return rows


def training_rows(lineage: Lineage) -> list[dict[str, object]]:
    """The trainings, oldest first: settings, what they started from, and the epochs that were
    taken."""
    return [
        run["settings"]
        | {
            "name": run["name"],
            "steps": run["steps"],
            "start": _start(lineage, run),
            "taken": _taken(lineage, id),
        }
        for id, run in _of_type(lineage, "run")
    ]


def merge_rows(lineage: Lineage) -> list[dict[str, object]]:
    """The merges, oldest first, each with a description of its method and the paper."""
    return [
        node | {"says": METHODS[node["method"]].says, "paper": METHODS[node["method"]].paper}
        for _, node in _of_type(lineage, "merge")
    ]


def strangers(lineage: Lineage) -> list[str]:
    """SHA-256 of every input file whose history is unknown."""
    return [node["sha256"] for _, node in _of_type(lineage, "model") if node["origin"] == "unknown"]


def signatures_chosen_on(lineage: Lineage) -> set[str]:
    """The plans under which any selection or search of this history was made."""
    searched = {
        node[plan] for _, node in _of_type(lineage, "search") for plan in ("signature", "check")
    }
    return searched | {node["signature"] for _, node in _of_type(lineage, "selection")}


def experiments(lineage: Lineage) -> list[str]:
    """One sentence a step, parents before children."""
    return [
        SENTENCES[lineage[id]["type"]](lineage, id)
        for id in _in_order(lineage)
        if lineage[id]["type"] in SENTENCES
    ]


def _dataset(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    subsets = ", ".join(
        f"{code_span(name)} {row['count']}" for name, row in node["subsets"].items()
    )
    return (
        f"Data set {code_span(title_of(lineage, id))}: {subsets} ({markdown(origin_words(node))})."
    )


def _run(lineage: Lineage, id: str) -> str:
    run, start = lineage[id], _start(lineage, lineage[id])
    settings = run["settings"]
    return (
        f"Training {code_span(run['name'])}{f' from {code_span(start)}' if start else ''}: "
        f"{settings['epochs']} epochs, {run['steps']} steps, "
        f"learning rate {settings['learning_rate']:g}."
    )


def _pictures(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    settings = node.get("settings", {"model": "an earlier one"})  # all that older versions know
    by = "an earlier model of this history" if settings.get("model") else "a base model"
    if settings.get("endpoint"):
        by = code_span(settings["image_model"])
    return f"{node['count']} pictures generated with {by}, {node['kept']} kept."


def _scenes(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    model = code_span(node["settings"]["model"])
    return f"{_count(node['count'], 'reference picture')} described by {model}."


def _evaluation(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    return f"{_count(len(node['models']), 'model')} measured {plan_words(node['signature'])}."


def _selection(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    reason = node.get("settings", {}).get("reason")
    how = f"by hand ({code_span(reason)}) among those" if reason else "by bias as"
    return (
        f"{_count(len(node['chosen']), 'model')} chosen {how} measured"
        f" {plan_words(node['signature'])}."
    )


def _search(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    names = [model["name"] for model in node["models"]]
    parts = [
        f"{weight:.2g} {code_span(name)}"
        for name, weight in zip(names, node["taken"], strict=True)
        if weight
    ]
    taken = (
        " + ".join(parts)
        if len(parts) > 1
        else f"{parts[0].removeprefix('1 ')} alone, which no merge clearly beat"
    )
    measured = f"{_count(len(node['trials']), 'measurement')} {plan_words(node['signature'])}"
    return (
        f"Search {code_span(node['name'])} for merge weights, {measured}; taken"
        f" {plan_words(node['check'])}: {taken}."
    )


def _merge(lineage: Lineage, id: str) -> str:
    node = lineage[id]
    kept = (
        "exactly"
        if node["exact"]
        else f"to rank {node['rank']}, {100 * node['energy_kept']:.1f} % of the energy kept"
    )
    if len(node["parts"]) == 1:
        part = node["parts"][0]
        return f"{code_span(node['name'])} is {code_span(part['name'])} times {part['weight']:g}."
    parts = ", ".join(code_span(part["name"]) for part in node["parts"])
    return f"Merge {code_span(node['name'])} of {parts}, {kept}."


SENTENCES: Mapping[str, Callable[[Lineage, str], str]] = {
    "dataset": _dataset,
    "run": _run,
    "scenes": _scenes,
    "pictures": _pictures,
    "evaluation": _evaluation,
    "selection": _selection,
    "search": _search,
    "merge": _merge,
}


def origin_words(dataset: Node) -> str:
    """Where the pictures of a data set came from: "84 drawn, 6 generated"."""
    counts: dict[str, int] = {}
    for origin, count in dataset["origins"].items():
        kind, _, detail = origin.partition(":")
        word = detail if kind == "told" else ORIGINS[kind]
        counts[word] = counts.get(word, 0) + count
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def plan_words(signature: str) -> str:
    """The size of a plan and the hash of its suite, from its signature."""
    parts = dict(part.split(":", 1) for part in signature.split("|") if ":" in part)
    return (
        f"on suite {code_span(parts['suite'])} ({parts['P']} prompts ×"
        f" {_count(int(parts['S']), 'seed')})"
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _of_type(lineage: Lineage, type: str) -> Iterator[tuple[str, Node]]:
    return ((id, lineage[id]) for id in _in_order(lineage) if lineage[id]["type"] == type)


def _in_order(lineage: Lineage) -> list[str]:
    """Ids with parents before children, in a possible order of time: a history has no times.

    A node without parents comes just before its first use. Ties are sorted by name.
    """
    depth: dict[str, int] = {}
    first_use: dict[str, int] = {}
    for id in ordered(lineage):
        depth[id] = max((depth[parent] + 1 for parent in lineage[id]["used"]), default=0)
        for parent in lineage[id]["used"]:
            first_use[parent] = min(first_use.get(parent, depth[id]), depth[id])
    for id, node in lineage.items():
        if not node["used"] and id in first_use:
            depth[id] = first_use[id] - 1
    return sorted(lineage, key=lambda id: (depth[id], str(lineage[id].get("name", "")), id))


def _uses(
    lineage: Lineage, dataset: str, subset: str
) -> Iterator[tuple[Node, Mapping[str, object]]]:
    """Runs that trained on a subset, each with its share of the data."""
    for _, run in _of_type(lineage, "run"):
        if dataset in run["used"]:
            yield from ((run, share) for share in run["shares"] if share["subset"] == subset)


def _start(lineage: Lineage, run: Node) -> str:
    """The name of the merge or checkpoint that a training went on from; "" for a new LoRA."""
    for parent in run["used"]:
        if lineage[parent]["type"] == "merge":
            return str(lineage[parent]["name"])
        if lineage[parent]["type"] == "checkpoint":
            return _checkpoint_name(lineage, parent)
        if lineage[parent]["type"] == "model":
            return str(lineage[parent].get("name", "a file of unknown origin"))
    return ""


def _taken(lineage: Lineage, run: str) -> list[int]:
    """The epochs of a run whose checkpoints something else was made from."""
    checkpoints = {
        id: node["epoch"] for id, node in _of_type(lineage, "checkpoint") if run in node["used"]
    }
    makers = ("run", "merge", "weights")
    used = {
        parent for _, node in lineage.items() if node["type"] in makers for parent in node["used"]
    }
    return sorted(epoch for id, epoch in checkpoints.items() if id in used)


def _checkpoint_name(lineage: Lineage, id: str) -> str:
    (run,) = lineage[id]["used"]
    return f"{lineage[run]['name']}@{lineage[id]['epoch']}"
