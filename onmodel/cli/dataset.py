"""`onmodel dataset …`: from a heap of pictures to subsets that a person can defend. Originals are
never changed."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli import dataset_caption, dataset_labels, dataset_scene, dataset_synthesize
from onmodel.cli.console import say, say_json
from onmodel.cli.dataset_lock import writes
from onmodel.cli.numbers import finite
from onmodel.errors import InputError

if TYPE_CHECKING:
    from onmodel.character import Character
    from onmodel.curate.audit import Audit
    from onmodel.curate.findings import Finding
    from onmodel.curate.workshop import Workshop

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=(
        "Curate pictures: import, audit, mend, labels, caption, synthesize, plan, choose, report,"
        " export."
    ),
)
WORK = Annotated[
    Path, typer.Argument(help="The folder that `onmodel dataset import` made.", show_default=False)
]
SHEET = Annotated[
    Path,
    typer.Option("--character", "-c", help="The model sheet, character.toml.", show_default=False),
]
TAGGER = Annotated[
    str | None,
    typer.Option(
        help="A tagger in WD v3 format, a folder or hf://owner/name; without, the toon world's."
    ),
]
IDENTITY = Annotated[
    str | None,
    typer.Option(help="An identity model in CCIP format, a folder or hf://owner/name/folder."),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
DRY = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
NAMED = 5  # findings of a kind that are printed


@app.command("import")
def import_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of pictures, zips, or other trainers' data sets.", show_default=False
        ),
    ],
    into: Annotated[
        Path, typer.Option(help="The folder of the new data set in the making.", show_default=False)
    ],
    origin: Annotated[
        str, typer.Option(help="Where the pictures come from, e.g. 'drawn by the author'.")
    ] = "unknown",
    rights: Annotated[str, typer.Option(help="The right or licence to use them.")] = "unknown",
    paper: Annotated[
        str, typer.Option(help="What shows through where a picture is transparent.")
    ] = "#ffffff",
    as_json: JSON = False,
) -> None:
    """Read pictures with their captions; originals stay where they are, what is refused is named
    with its reason."""
    from onmodel.cli.render import on_terminal
    from onmodel.curate.gather import gather

    with on_terminal() as events:
        count, refused = gather(sources, into, origin, rights, events, paper)
    if as_json:
        say_json({"pictures": count, "refused": refused})
        return
    say(f"{into}: {count} pictures, {len(refused)} files refused")
    for row in refused:
        say(f"  {row['file']}: {row['reason']}")


@app.command("audit")
@writes
def audit_command(
    work: WORK,
    character: SHEET,
    tagger: TAGGER = None,
    identity: IDENTITY = None,
    as_json: JSON = False,
) -> None:
    """Look at every picture and label; findings with evidence, severity and id. Changes nothing."""
    from onmodel.hashing import read_json

    audit, workshop = _audit(work, character, tagger, identity)
    if as_json:
        say_json(read_json(workshop.folder / "audit.json"))
        return
    _say_findings(list(audit.findings), work)


@app.command("mend")
@writes
def mend_command(
    work: WORK,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of findings.", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Every finding of a kind, e.g. 'wrong label'.")
    ] = None,
    dry_run: DRY = False,
) -> None:
    """Do what findings propose: labels in place, pictures set aside. `undo` takes it back as one
    step."""
    from onmodel.curate.workshop import mending, open_workshop, read_findings, still_apply

    workshop, findings = open_workshop(work), read_findings(work)
    known = {row.id: row for row in findings}
    kinds = sorted({row.kind for row in findings})
    for name in ids or []:
        if name not in known:
            raise InputError(
                "id", name, "no finding of the last audit has it; see `onmodel dataset audit`"
            )
    for name in kind or []:
        if name not in kinds:
            raise InputError("kind", name, f"the last audit found {', '.join(kinds)}")
    wanted = [known[name] for name in ids or []] + [
        row for row in findings if row.kind in (kind or [])
    ]
    if not wanted:
        raise InputError("mend", "nothing", "name ids of findings, or --kind")
    proposed = [row for row in map(mending, wanted) if row]
    left = len(wanted) - len(proposed)
    decisions = still_apply(workshop, proposed)
    for row in decisions[:NAMED] if not dry_run else decisions:
        change = "set aside" if row.do == "aside" else f"−{list(row.remove)} +{list(row.add)}"
        say(f"{row.picture}: {change} ({row.why})")
    if decisions and not dry_run:
        workshop.decide(decisions)
        say(f"{len(decisions)} mended; `onmodel dataset undo {work}` takes them back")
    if old := len(proposed) - len(decisions):
        say(f"{old} are older than the last change of their picture; audit again")
    if left:
        say(f"{left} need a person: only you know what is right there")


@app.command("decide")
@writes
def decide_command(
    work: WORK,
    picture: Annotated[list[str], typer.Argument(help="Names, subset/file.", show_default=False)],
    keep: Annotated[
        bool, typer.Option("--keep/--aside", help="Keep them, or set them aside.")
    ] = True,
    tags: Annotated[str, typer.Option(help="Write these tags instead: 'a, b, c'.")] = "",
    sentence: Annotated[str, typer.Option(help="Write this sentence instead.")] = "",
    why: Annotated[str, typer.Option(help="Your reason; it is recorded.")] = "",
) -> None:
    """Decide by hand about pictures. A person's decision stands against every rule."""
    from onmodel.curate.workshop import Decision, open_workshop
    from onmodel.dataset.captions import split_tags

    workshop = open_workshop(work)
    rows = []
    for name in picture:
        if tags:
            now = tuple(workshop.pieces[name].words) if name in workshop.pieces else ()
            rows.append(Decision(0, "tag", "person", name, now, tuple(split_tags(tags)), why))
        if sentence:
            rows.append(Decision(0, "sentence", "person", name, sentence=sentence, why=why))
        if not tags and not sentence:
            rows.append(Decision(0, "keep" if keep else "aside", "person", name, why=why))
    workshop.decide(rows)
    say(f"{len(rows)} decided")


@app.command("undo")
def undo_command(work: WORK) -> None:
    """Take the last step back; again for the one before."""
    from onmodel.curate.workshop import open_workshop

    _, step = open_workshop(work).undo()
    say(f"step {step} is taken back")


app.command("labels")(dataset_labels.command)
app.command("caption")(writes(dataset_caption.command))
app.command("scene")(dataset_scene.command)
app.command("synthesize")(writes(dataset_synthesize.command))


@app.command("plan")
@writes
def plan_command(
    work: WORK,
    character: SHEET,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "attribute=value:share,…; without, every shown value of what is free equally often."
            )
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Take the proposed repeats.")] = False,
    tagger: TAGGER = None,
    identity: IDENTITY = None,
    as_json: JSON = False,
) -> None:
    """Propose repeats of the subsets that bring what is shown near a target, and say what each
    change costs."""
    from dataclasses import asdict

    from onmodel.curate.balance import balance, effective_of, even_targets
    from onmodel.curate.workshop import Decision

    audit, workshop = _audit(work, character, tagger, identity)
    free = _sheet(character).free
    targets = (
        dict(map(parse_target, target))
        if target
        else even_targets(audit.shown, audit.vocabulary, free)
    )
    found = balance(audit.shown, audit.vocabulary, targets, workshop.repeats)
    if as_json:
        say_json(asdict(found))
    else:
        say(
            f"distance from the target {found.before:.3f} → {found.distance:.3f}; "
            f"{found.effective:.0f} of {len(audit.pieces)} pictures count"
        )
        for subset, repeats in found.repeats.items():
            now = workshop.repeats.get(subset, 1)
            say(
                f"  {subset}: {now} → {repeats} repeats"
                if now != repeats
                else f"  {subset}: {repeats} repeats"
            )
        say("one repeat more or less of:")
        for step, distance in found.steps.items():
            say(f"  {step}: {distance:.3f} ({distance - found.distance:+.3f})")
        for attribute, shares in found.shares.items():
            say(
                f"  {attribute}: {effective_of(shares):.1f} values count; "
                + ", ".join(f"{value} {share:.0%}" for value, share in shares.items())
            )
    if apply:
        rows = [
            Decision(0, "repeats", "person", subset=s, repeats=n, why="plan")
            for s, n in found.repeats.items()
        ]
        workshop.decide(rows)


@app.command("choose")
@writes
def choose_command(
    work: WORK,
    character: SHEET,
    count: Annotated[
        int, typer.Option("--count", "-k", min=1, help="How many to keep.", show_default=False)
    ],
    subset: Annotated[
        list[str] | None, typer.Option(help="Choose among these subsets; without, among all.")
    ] = None,
    at_least: Annotated[
        list[str] | None, typer.Option(help="Quota: a subset or value=number, e.g. smile=8.")
    ] = None,
    at_most: Annotated[
        list[str] | None, typer.Option(help="Quota: a subset or tag value=number.")
    ] = None,
    spread: Annotated[
        float, typer.Option(callback=finite, min=0, help="Weight of spread against merit.")
    ] = 1.0,
    apply: Annotated[bool, typer.Option("--apply", help="Set the others aside.")] = False,
    tagger: TAGGER = None,
    identity: IDENTITY = None,
    as_json: JSON = False,
) -> None:
    """Choose the best k pictures: good, true to the character, spread out; one of each group of
    repeats."""
    import numpy as np

    from onmodel.curate.choose import choose_best
    from onmodel.curate.workshop import Decision

    audit, workshop = _audit(work, character, tagger, identity)
    inside = [i for i, piece in enumerate(audit.pieces) if not subset or piece.subset in subset]
    if not inside:
        known = ", ".join(dict.fromkeys(piece.subset for piece in audit.pieces))
        raise InputError("subset", ", ".join(subset or []), f"there are {known}")
    labels = [
        frozenset(
            {
                audit.pieces[i].subset,
                *(v for values in audit.shown[i].values.values() for v in values),
            }
        )
        for i in inside
    ]
    features = np.concatenate([audit.looks.tags, audit.looks.sectors], axis=1)[inside]
    chosen = choose_best(
        features,
        audit.merit()[inside],
        [audit.groups[i] for i in inside],
        count,
        spread,
        labels,
        dict(map(_quota, at_least or [])),
        dict(map(_quota, at_most or [])),
    )
    names = [audit.pieces[inside[i]].name for i in chosen]
    if apply:
        left = [audit.pieces[i].name for i in inside if audit.pieces[i].name not in set(names)]
        workshop.decide(
            [
                Decision(0, "aside", "rule: choose", name, why=f"not among the best {count}")
                for name in left
            ]
        )
    if as_json:
        say_json(names)
    else:
        for name in names:
            say(name)


@app.command("report")
@writes
def report_command(
    work: WORK,
    character: SHEET,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write (.html).")] = Path(
        "dataset.html"
    ),
    tagger: TAGGER = None,
    identity: IDENTITY = None,
) -> None:
    """One page that needs no network: every picture with decisions, subsets, coverage, findings;
    beside it its JSON."""
    from onmodel.hashing import write_atomic
    from onmodel.report.dataset_page import dataset_page

    audit, workshop = _audit(work, character, tagger, identity)
    write_atomic(out, dataset_page(audit, workshop, _sheet(character)).encode())
    write_atomic(out.with_suffix(".json"), (workshop.folder / "audit.json").read_bytes())
    say(f"{out} and {out.with_suffix('.json')}")


@app.command("export")
def export_command(
    work: WORK,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.", show_default=False)],
    kohya: Annotated[
        bool, typer.Option("--kohya", help="Folders called 10_name, ten repeats each.")
    ] = False,
) -> None:
    """Write what is kept as folders of pictures and captions, for a recipe's curate stage or
    another trainer."""
    from onmodel.cli.render import on_terminal
    from onmodel.curate.export import export, unread_by_kohya
    from onmodel.curate.workshop import open_workshop

    workshop = open_workshop(work)
    with on_terminal() as events:
        counts = export(workshop, out, kohya, events)
    for name, count in counts.items():
        say(f"{out / name}: {count} pictures")
    if kohya and (unread := unread_by_kohya(workshop)):
        say(
            f"sd-scripts leaves {len(unread)} of them out without a word, e.g. {unread[0]}",
            stderr=True,
        )


def _sheet(path: Path) -> "Character":
    from onmodel.character import load_character

    return load_character(path)


def _audit(
    work: Path, character: Path, tagger: str | None, identity: str | None
) -> "tuple[Audit, Workshop]":
    from onmodel.cli.render import on_terminal
    from onmodel.curate.audit import run_audit
    from onmodel.curate.lettering import load_reader
    from onmodel.curate.workshop import open_workshop
    from onmodel.evaluate.observers import load_observers

    sheet, workshop = _sheet(character), open_workshop(work)
    base = "" if tagger or identity else "toon"
    with on_terminal() as events:
        observers = load_observers(base, {"tagger": tagger, "identity": identity}, 1)
        return run_audit(workshop, sheet, observers, events, load_reader(1)), workshop


def _say_findings(findings: "list[Finding]", work: Path) -> None:
    counts = Counter((row.severity, row.kind) for row in findings)
    for (severity, kind), count in counts.items():
        rows = [row for row in findings if row.kind == kind and row.severity == severity]
        say(f"{severity}: {count} × {kind}")
        for row in rows[:NAMED]:
            say(f"  {row.id}  {row.picture or 'all'}  {row.subject}: {row.evidence}")
        if count > NAMED:
            say(f"  and {count - NAMED} more, all in {work / 'audit.json'}")
    if any(row.fix for row in findings):
        say(f"mend one: onmodel dataset mend {work} ID, or all of a kind: … --kind 'wrong label'")
    if not findings:
        say("nothing is found")


def parse_target(text: str) -> tuple[str, dict[str, float]]:
    """Attribute and value → share, from `attribute=value:share,…`. Raises InputError."""
    attribute, equals, rows = text.partition("=")
    try:
        shares = {
            row.rpartition(":")[0].strip(): float(row.rpartition(":")[2]) for row in rows.split(",")
        }
        total = sum(shares.values())
        if not equals or total <= 0 or min(shares.values()) < 0:
            raise ValueError
    except ValueError:
        raise InputError(
            "target", text, "write attribute=value:share,…, e.g. style=comic:1,pastel:2"
        ) from None
    return attribute, {value: share / total for value, share in shares.items()}


def _quota(text: str) -> tuple[str, int]:
    name, equals, number = text.rpartition("=")
    if not equals or not number.isdecimal():
        raise InputError("quota", text, "write name=number, e.g. smile=8")
    return name, int(number)
