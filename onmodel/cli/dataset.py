"""`onmodel dataset …`: a data set in the making, from raw pictures to an export."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli import dataset_models, dataset_queries
from onmodel.cli.console import say, say_json
from onmodel.cli.dataset_writes import writes
from onmodel.cli.options import DRY_RUN, JSON, SHEET, WORK, expand
from onmodel.curate.settings import TARGET_HELP, ChooseSettings, ImportSettings, ObserverSettings

if TYPE_CHECKING:
    from onmodel.curate.findings import AuditFinding

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Curate pictures: import, audit, fix, caption, balance, export.",
)
NAMED = 5  # findings of a kind that are printed
APPLY = "Record the result in the data set; `undo` takes it back."


@app.command("import")
@expand
def import_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of pictures, zips, or other trainers' data sets.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the new data set.", show_default=False),
    ],
    settings: ImportSettings,
    as_json: JSON = False,
) -> None:
    """Read pictures and captions into a new data set. Refused files are listed with the reason."""
    from onmodel.cli.render import on_terminal
    from onmodel.curate.gather import gather

    with on_terminal() as events:
        found = gather(
            sources,
            out,
            settings.origin,
            settings.rights,
            events,
            settings.background,
            settings.tagger,
        )
    if as_json:
        say_json({"pictures": found.pictures, "refused": found.refused, "notes": found.notes})
        return
    say(f"{out}: {found.pictures} pictures, {len(found.refused)} files refused")
    for note in found.notes:
        say(f"  {note}")
    for row in found.refused:
        say(f"  {row['file']}: {row['reason']}")


@app.command("audit")
@expand
@writes
def audit_command(
    work: WORK, sheet: SHEET, observers: ObserverSettings, as_json: JSON = False
) -> None:
    """Check every picture and label. Findings have evidence, severity and an id."""
    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.actions import audit_folder
    from onmodel.hashing import read_json

    with on_terminal() as events:
        audit, workshop = audit_folder(work, load_character(sheet), observers, events)
    if as_json:
        say_json(read_json(workshop.folder / "audit.json"))
    else:
        _say_findings(list(audit.findings), work)


@app.command("fix")
@writes
def fix_command(
    work: WORK,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of findings.", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Every finding of a kind, e.g. 'wrong label'.")
    ] = None,
    dry_run: DRY_RUN = False,
) -> None:
    """Apply what findings propose: correct labels, exclude pictures. `undo` takes it back."""
    from onmodel.curate.decisions import fix_findings

    fixed = fix_findings(work, ids or [], kind or [], dry_run)
    for row in fixed.decisions if dry_run else fixed.decisions[:NAMED]:
        change = "excluded" if row.do == "aside" else f"−{list(row.remove)} +{list(row.add)}"
        say(f"{row.picture}: {change} ({row.why})")
    if fixed.decisions and not dry_run:
        say(f"{len(fixed.decisions)} fixed; `onmodel dataset undo {work}` takes them back")
    if fixed.outdated:
        say(f"{fixed.outdated} are older than the last change of their picture; audit again")
    if fixed.by_hand:
        say(f"{fixed.by_hand} have no automatic fix; use `onmodel dataset decide`")


@app.command("decide")
@writes
def decide_command(
    work: WORK,
    picture: Annotated[
        list[str], typer.Argument(help="Pictures, as subset/file.", show_default=False)
    ],
    keep: Annotated[
        bool, typer.Option("--keep/--exclude", help="Keep the pictures, or exclude them.")
    ] = True,
    tags: Annotated[
        str | None, typer.Option(help="New tags: 'a, b, c'; '' for none.", show_default=False)
    ] = None,
    sentence: Annotated[
        str | None, typer.Option(help="New sentence; '' for none.", show_default=False)
    ] = None,
    why: Annotated[str, typer.Option(help="Reason, recorded with the decision.")] = "",
) -> None:
    """Decide by hand about pictures. A decision by hand overrides every rule."""
    from onmodel.curate.decisions import decide_by_hand
    from onmodel.curate.workshop import open_workshop

    say(f"{decide_by_hand(open_workshop(work), picture, keep, tags, sentence, why)} decided")


@app.command("undo")
def undo_command(work: WORK) -> None:
    """Take the last step back. Repeat for earlier steps."""
    from onmodel.curate.workshop import open_workshop

    _, step = open_workshop(work).undo()
    say(f"step {step} is taken back")


@app.command("redo")
def redo_command(work: WORK) -> None:
    """Do the step again that `undo` took back last. Repeat for later steps."""
    from onmodel.curate.workshop import open_workshop

    _, step = open_workshop(work).redo()
    say(f"step {step} is done again")


app.command("list")(dataset_queries.list_command)
app.command("tags")(writes(dataset_queries.tags_command))


@app.command("labels")
@writes
def labels_command(
    work: WORK,
    strict: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Attributes that every picture of a subset must have, e.g. `base=pose`. `base=`"
                " clears them."
            )
        ),
    ] = None,
    aliases: Annotated[
        Path | None,
        typer.Option(
            help="CSV of tag aliases: alias,tag or tag,category,count,'alias,alias'.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Configure the audit's label rules. With no options, print them."""
    from onmodel.curate.actions import set_label_rules

    workshop, changed = set_label_rules(work, strict or [], aliases)
    for subset, attributes in workshop.strict.items():
        say(f"{subset} must have {', '.join(attributes) or 'nothing'}")
    say(f"{len(workshop.aliases)} aliases" if workshop.aliases else "no list of aliases")
    if changed:
        say(f"audit again to apply them; `onmodel dataset undo {work}` takes it back")


app.command("caption")(expand(writes(dataset_models.caption_command)))
app.command("scene")(expand(dataset_models.scene_command))
app.command("synthesize")(expand(writes(dataset_models.synthesize_command)))


@app.command("plan")
@expand
@writes
def plan_command(
    work: WORK,
    sheet: SHEET,
    observers: ObserverSettings,
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"{TARGET_HELP} Default: all shown values equally often."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help=APPLY)] = False,
    as_json: JSON = False,
) -> None:
    """Propose repeats of the subsets that balance what is shown, with the effect of each change."""
    from dataclasses import asdict

    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.actions import plan_repeats
    from onmodel.curate.balance import effective_of

    with on_terminal() as events:
        found, audit, workshop = plan_repeats(
            work, load_character(sheet), target or [], observers, apply, events
        )
    if as_json:
        say_json(asdict(found))
        return
    say(
        f"distance from the target {found.before:.3f} → {found.distance:.3f}; "
        f"{found.effective:.0f} effective of {len(audit.pieces)} pictures"
    )
    for subset, repeats in found.repeats.items():
        now = workshop.repeats.get(subset, 1)
        say(f"  {subset}: {f'{now} → ' if now != repeats else ''}{repeats} repeats")
    say("with one repeat more or less:")
    for step, distance in found.steps.items():
        say(f"  {step}: {distance:.3f} ({distance - found.distance:+.3f})")
    for attribute, shares in found.shares.items():
        values = ", ".join(f"{value} {share:.0%}" for value, share in shares.items())
        say(f"  {attribute}: {effective_of(shares):.1f} effective values; {values}")


@app.command("choose")
@expand
@writes
def choose_command(
    work: WORK,
    sheet: SHEET,
    settings: ChooseSettings,
    observers: ObserverSettings,
    apply: Annotated[bool, typer.Option("--apply", help=f"Exclude the others. {APPLY}")] = False,
    as_json: JSON = False,
) -> None:
    """Choose the best pictures: sharp, on-model, diverse, without near-duplicates."""
    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.actions import choose_pictures

    with on_terminal() as events:
        names = choose_pictures(work, load_character(sheet), settings, observers, apply, events)
    if as_json:
        say_json(names)
        return
    for name in names:
        say(name)


@app.command("report")
@expand
@writes
def report_command(
    work: WORK,
    sheet: SHEET,
    observers: ObserverSettings,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page to write (.html), and a .json beside it.")
    ] = Path("dataset.html"),
) -> None:
    """Write one page with every picture, decision, subset, coverage and finding."""
    from onmodel.character import load_character
    from onmodel.cli.render import on_terminal
    from onmodel.curate.actions import audit_folder
    from onmodel.report.dataset_page import write_dataset_page

    character = load_character(sheet)
    with on_terminal() as events:
        audit, workshop = audit_folder(work, character, observers, events)
    write_dataset_page(out, audit, workshop, character)
    say(f"{out} and {out.with_suffix('.json')}")


@app.command("export")
def export_command(
    work: WORK,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write. It must not exist.")],
    kohya: Annotated[
        bool, typer.Option("--kohya", help="Name folders by repeats, e.g. 10_name.")
    ] = False,
) -> None:
    """Write kept pictures and captions as folders, for a recipe or another trainer."""
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
            f"sd-scripts silently skips {len(unread)} of them, e.g. {unread[0]}",
            stderr=True,
        )


def _say_findings(findings: "list[AuditFinding]", work: Path) -> None:
    counts = Counter((row.severity, row.kind) for row in findings)
    for (severity, kind), count in counts.items():
        rows = [row for row in findings if row.kind == kind and row.severity == severity]
        say(f"{severity}: {count} × {kind}")
        for row in rows[:NAMED]:
            say(f"  {row.id}  {row.picture or 'all'}  {row.subject}: {row.evidence}")
        if count > NAMED:
            say(f"  and {count - NAMED} more, all in {work / 'audit.json'}")
    if any(row.fix for row in findings):
        say(f"fix one: onmodel dataset fix {work} ID, or all of a kind: … --kind 'wrong label'")
    if not findings:
        say("no findings")
