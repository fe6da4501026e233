"""How much of what is planted in a heap of toons does the audit find? Precision and recall of each
kind of fault.

    python benchmarks/audit_faults.py --seed 1 --count 2000 --out benchmarks/audit-faults.json

Thresholds were set on seeds 0 and 2. Labels and watermarks of cut-outs are left out of the count: a
cut changes framing and pose, and takes letters off.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from onmodel.character import load_character
from onmodel.cli.render import on_terminal
from onmodel.curate.audit import Audit, run_audit
from onmodel.curate.gather import gather
from onmodel.curate.lettering import load_reader
from onmodel.curate.workshop import open_workshop
from onmodel.evaluate.observers import load_observers
from onmodel.toon.heap import LABELLED, REPEATED, Heap, plant_heap

SHEET = Path(__file__).parents[1] / "onmodel" / "toon" / "characters" / "backgwa.toml"
KINDS = {  # planted → kind of finding
    "wrong character": "wrong character",
    "yellow": "yellow cast",
    "blurred": "blurred",
    "watermark": "lettering",
    "no trigger": "no trigger",
    "fused tag": "fused tag",
    "misspelt tag": "spelling",
    "artist name": "artist name",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, on_terminal() as events:
        folder, work = Path(temporary) / "heap", Path(temporary) / "work"
        heap = plant_heap(folder, args.count, args.seed)
        gather([folder], work, "toon renderer", "MIT", events)
        observers, reader = load_observers("toon", {}, 1), load_reader(1)
        audit = run_audit(open_workshop(work), load_character(SHEET), observers, events, reader)
    rows = score(heap, audit)
    print(
        f"| planted fault ({args.count} pictures, seed {args.seed}) | planted | found | precision |"
        " recall |"
    )
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['planted']} | {row['found']} | {row['precision']} | {row['recall']} |"
        )
    if args.out:
        args.out.write_text(
            json.dumps({"seed": args.seed, "count": args.count, "rows": rows}, indent=1) + "\n"
        )
    sys.stdout.flush()


def score(heap: Heap, audit: Audit) -> dict[str, dict[str, Any]]:
    """Fault → planted, found, precision, recall."""
    cut = heap.pictures["crop"]
    rows = {}
    groups = dict(zip((piece.name for piece in audit.pieces), audit.groups, strict=True))
    names = [piece.name for piece in audit.pieces]
    pairs = [(names[link.part], names[link.whole]) for link in audit.links]
    true = [pair for pair in pairs if _one_root(heap, *pair)]
    for kind in REPEATED:
        own = [name for name in heap.repeats if name in heap.pictures[kind]]
        grouped = [name for name in own if groups[name] == groups[heap.repeats[name]]]
        rows[f"repeat: {kind}, grouped with its original"] = _row(own, grouped, grouped) | {
            "precision": "–"
        }
    aside = [
        (row.picture, row.subject)
        for row in audit.findings
        if row.kind.startswith("repeat") and row.fix
    ]
    rows["repeats, pairs of which mend sets one aside"] = _row(
        [], aside, [p for p in aside if _one_root(heap, *p)]
    ) | {"planted": "–", "recall": "–"}
    alike = [pair for pair in pairs if _one_scene(heap, *pair)]
    rows["repeats, pairs"] = _row([], pairs, true) | {"planted": len(heap.repeats), "recall": "–"}
    rows["repeats, pairs, with scenes that chance drew twice"] = _row([], pairs, alike) | {
        "planted": "–",
        "recall": "–",
    }
    judged = {row.subject for row in audit.findings if row.kind == "not judgeable"}
    for fault in ("wrong label", "missing label"):
        planted = {row for row in heap.labels[fault] if row[0] not in cut}
        found = {
            (row.picture, row.subject)
            for row in audit.findings
            if row.kind == fault and row.picture not in cut
        }
        fair = {row for row in planted if row[1] not in judged}
        rows[f"{fault}, attributes that the tagger judges"] = _row(fair, found, found & fair)
        rows[f"{fault}, all attributes"] = _row(planted, found, found & planted)
        for attribute in LABELLED:
            mine = [{row for row in rows_ if row[1] == attribute} for rows_ in (planted, found)]
            rows[f"{fault}: {attribute}"] = _row(mine[0], mine[1], mine[0] & mine[1])
    for fault, kind in KINDS.items():
        planted_names = heap.pictures.get(fault, set()) | (
            {
                name
                for name, other in heap.repeats.items()
                if other in heap.pictures.get(fault, set())
            }
            if fault in ("no trigger", "fused tag", "misspelt tag", "artist name")
            else set()
        )
        found_names = {row.picture for row in audit.findings if row.kind == kind}
        if fault == "watermark":
            planted_names, found_names = planted_names - cut, found_names - cut
        rows[fault] = _row(planted_names, found_names, planted_names & found_names)
    rows |= _sets(heap, audit)
    return rows


def _sets(heap: Heap, audit: Audit) -> dict[str, dict[str, Any]]:
    """Faults of the whole set: one of each is planted, so found are all findings of the kind."""
    from onmodel.toon.attributes import VOCABULARY

    tag = VOCABULARY[heap.sets["fused"][1]][heap.sets["fused"][2]]
    wanted = {
        "fused with the trigger": ({tag}, "fused with the trigger"),
        "confound": (
            {f"{heap.sets[name][0]} × {heap.sets[name][1]}" for name in ("confound", "style skew")},
            "confound",
        ),
        "skewed subset": (
            {
                f"{s}: {heap.sets['fused'][1]}"
                for s in dict.fromkeys(piece.subset for piece in audit.pieces)
            }
            | {
                f"{heap.sets[name][0]}: {heap.sets[name][1]}" for name in ("confound", "style skew")
            },
            "skewed subset",
        ),
    }
    rows = {}
    for name, (planted, kind) in wanted.items():
        found = {row.subject for row in audit.findings if row.kind == kind}
        rows[name] = _row(planted, found, planted & found)
    return rows


def _one_root(heap: Heap, a: str, b: str) -> bool:
    return _root(heap, a) == _root(heap, b)


def _one_scene(heap: Heap, a: str, b: str) -> bool:
    """One is made of the other, or both were drawn of the same labels but for one."""
    one, other = heap.toons[_root(heap, a)], heap.toons[_root(heap, b)]
    return _one_root(heap, a, b) or sum(getattr(one, n) != getattr(other, n) for n in LABELLED) <= 1


def _root(heap: Heap, name: str) -> str:
    return heap.repeats.get(name, name)


def _row(planted: Any, found: Any, right: Any) -> dict[str, Any]:
    precision = round(len(right) / len(found), 3) if len(found) else "–"
    recall = round(len(right) / len(planted), 3) if len(planted) else "–"
    return {"planted": len(planted), "found": len(found), "precision": precision, "recall": recall}


if __name__ == "__main__":
    main()
