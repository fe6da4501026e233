"""What went in and why it was taken: data sets with exposures, choices with reasons, merges with
weights."""

from collections import Counter
from collections.abc import Sequence

from onmodel.evaluate.choice import Choice, SearchedModel, SearchRecord
from onmodel.evaluate.headlines import label
from onmodel.report import plots
from onmodel.report.pictures import SMALL, Thumbnails
from onmodel.report.source import ManifestSubset, MergeRecord, ReportSource
from onmodel.text import capital, decimal

STRIP = 14  # pictures shown of a subset


def data_sets(source: ReportSource, thumbnails: Thumbnails) -> list[dict[str, object]]:
    """Every data set with its subsets: counts, how each training used them, some pictures."""
    found: list[dict[str, object]] = []
    for stage, manifest in source.datasets.items():
        subsets = [
            _subset(source, stage, name, facts, thumbnails)
            for name, facts in manifest["subsets"].items()
        ]
        found.append(
            {
                "label": label(stage),
                "count": len(manifest["items"]),
                "refused": len(manifest["refused"]),
                "subsets": subsets,
            }
        )
    return found


def choices(source: ReportSource) -> list[dict[str, object]]:
    """Every selection: its rule and bounds, and each model with the reason why it was chosen or
    left, best first."""
    return [_choice(stage, choice) for stage, choice in source.selections.items()]


def _choice(stage: str, choice: Choice) -> dict[str, object]:
    facts = [f"{capital(axis)} at least {bound:g}." for axis, bound in choice.at_least.items()]
    facts += [f"{capital(axis)} at most {bound:g}." for axis, bound in choice.at_most.items()]
    if choice.too_close_to_call:
        facts.append("Too close to call: models that were left may be as good.")
    if not choice.constraints_met:
        facts.append("Not every constraint is met; these are the least bad.")
    ranked = sorted(choice.candidates, key=lambda row: (not row.chosen, row.bias))
    rows = [
        {
            "label": label(row.name),
            "chosen": row.chosen,
            "reason": row.reason,
            "bias": decimal(row.bias, 3),
            "interval": f"{decimal(row.low, 3)}\N{HORIZONTAL ELLIPSIS}{decimal(row.high, 3)}",
            "front": f"{100 * row.front:.0f} %",
        }
        for row in ranked
    ]
    return {
        "label": label(stage),
        "rule": capital(choice.rule),
        "signature": choice.signature,
        "facts": facts,
        "rows": rows,
    }


def merges(source: ReportSource) -> list[dict[str, object]]:
    """Every merge: its method, the energy kept, and the models with weight and strength."""
    return [_merge(stage, merge) for stage, merge in source.merges.items()]


def _merge(stage: str, merge: MergeRecord) -> dict[str, object]:
    models = []
    for row, line in zip(merge["models"], merge["cosines"], strict=True):
        cosines = [decimal(value, 2) for value in line]
        models.append(
            {
                "label": label(row["name"]),
                "weight": f"{row['weight']:.3g}",
                "strength": f"{row['strength']:.3g}",
                "cosines": cosines,
            }
        )
    return {
        "label": label(stage),
        "method": merge["method"],
        "rank": merge["rank"],
        "kept": f"{100 * merge['energy_kept']:.1f} %",
        "strength": f"{merge['strength']:.3g}",
        "models": models,
    }


def searches(source: ReportSource) -> list[dict[str, object]]:
    """Every search for merge weights: its objective, its result, and each measurement."""
    return [_search(stage, search) for stage, search in source.searches.items()]


def _search(stage: str, search: SearchRecord) -> dict[str, object]:
    trials = []
    for trial, expected in zip(search.trials, search.expected, strict=True):
        weights = [f"{weight:.2g}" if weight else "" for weight in trial.weights]
        trials.append(
            {
                "block": trial.block,
                "why": trial.why,
                "value": decimal(trial.value, 3),
                "expected": decimal(expected, 3),
                "weights": weights,
            }
        )
    return {
        "label": label(stage),
        "objective": capital(search.objective),
        "noise": decimal(search.noise, 3),
        "taken": _mixture(search.models, search.taken),
        "found": _mixture(search.models, search.found),
        "models": [label(row.name) for row in search.models],
        "svg": plots.search(label(stage), search.trials, search.expected),
        "trials": trials,
    }


def _mixture(models: Sequence[SearchedModel], weights: Sequence[float]) -> str:
    """ "0.3 Release 2 @10 + 0.7 Release 2 @20"; a model alone has no number."""
    parts = [
        (label(row.name), weight) for row, weight in zip(models, weights, strict=True) if weight
    ]
    return (
        parts[0][0]
        if len(parts) == 1
        else " + ".join(f"{weight:.2g} {name}" for name, weight in parts)
    )


def _subset(
    source: ReportSource, stage: str, name: str, facts: ManifestSubset, thumbnails: Thumbnails
) -> dict[str, object]:
    items = [item for item in source.datasets[stage]["items"] if item["subset"] == name]
    shown = items[:: max(1, -(-len(items) // STRIP))]
    return {
        "name": name,
        "purpose": facts["purpose"],
        "train": sum(item["split"] == "train" for item in items),
        "heldout": sum(item["split"] == "heldout" for item in items),
        "origins": dict(Counter(item["origin"].partition(":")[0] for item in items)),
        "uses": [use for train in source.stages for use in _uses(source, train, stage, name)],
        "pictures": [
            {"uri": thumbnails.encoded(stage, item["image"], SMALL), "text": item["tags"]}
            for item in shown
        ],
    }


def _uses(source: ReportSource, stage: str, dataset: str, subset: str) -> list[dict[str, object]]:
    """The use of a subset by a train stage: repeats per epoch, epochs, exposures of each
    picture."""
    table = source.stages[stage]
    if table["do"] != "train":
        return []
    said = source.datasets[dataset]["subsets"][subset].get("shown", {}).get("repeats", 1)
    every = source.datasets[table["dataset"]]["subsets"].items()
    shares = table.get("data") or [
        {"subset": name} for name, row in every if row["heldout"] < row["count"]
    ]
    repeats = [
        share.get("repeats", said)
        for share in shares
        if share["subset"] == subset and share.get("stage", table["dataset"]) == dataset
    ]
    return [
        {
            "label": label(stage),
            "repeats": r,
            "epochs": table["epochs"],
            "exposures": r * table["epochs"],
        }
        for r in repeats
    ]
