"""What a curate stage reports about the data set it made, and what its lineage records."""

from collections import Counter
from collections.abc import Mapping, Sequence

from onmodel.curate.provenance import SELF_TAUGHT, SelfTaught
from onmodel.dataset.manifest import Refusal, SubsetRow, leaf
from onmodel.dataset.merkle import merkle_root
from onmodel.events import Events, first
from onmodel.records import Item

SHOWN_REFUSALS = 5


def dataset_facts(
    items: Sequence[Item], subsets: Mapping[str, SubsetRow], taught: Mapping[str, SelfTaught]
) -> dict[str, object]:
    """The data set's Merkle root, its numbers of pictures by subset, and by origin."""
    counts = {}
    for name, row in subsets.items():
        counts[name] = {"count": row["count"], "heldout": row["heldout"]}
        if taught[name].own:
            counts[name]["self_taught"] = taught[name].own
    return {
        "root": merkle_root(map(leaf, items)),
        "subsets": counts,
        "origins": dict(sorted(Counter(item.origin for item in items).items())),
    }


def report_subsets(subsets: Mapping[str, SubsetRow], events: Events) -> None:
    """A row for each subset: its pictures, and how many of them are held out."""
    for name, row in subsets.items():
        count, heldout = row["count"], row["heldout"]
        held = f", {heldout} of them held out" if heldout else ""
        text = f"{name}: {count} pictures{held}"
        events.row("subsets", text, subset=name, pictures=count, heldout=heldout)


def report_refused(refused: Sequence[Refusal], events: Events) -> None:
    """The first refused files with their reasons."""
    if refused:
        lines = [f"{row.file}: {row.reason}" for row in refused]
        details = first(lines, SHOWN_REFUSALS, "the manifest")
        events.note(f"{len(refused)} files are excluded:", "warning", details)


def warn_self_training(taught: Mapping[str, SelfTaught], events: Events) -> None:
    """A warning for each subset that is mostly self-training."""
    for name, row in taught.items():
        if row.share >= SELF_TAUGHT:
            line = (
                f"{name}: {row.share:.0%} of it was made by the model's own ancestors; it will"
                " learn their faults"
            )
            events.note(line, "warning")
