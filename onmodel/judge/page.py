"""The session's page, the result as part of it, and the result on a terminal."""

from importlib.resources import files

import jinja2
from rich.console import Console
from rich.table import Table

from onmodel.console import PlainConsole
from onmodel.evaluate.statistics import Interval
from onmodel.judge.result import SessionResult
from onmodel.judge.session import Session
from onmodel.report.table import PLAIN_WIDTH

NOTHING = "\N{EN DASH}"


def session_page(session: Session) -> str:
    """The page that shows the pairs; it holds no name of a model."""
    width, height = session.shown.size
    return (
        _environment()
        .get_template("page.html.j2")
        .render(question=session.question, width=width, height=height)
    )


def page_style() -> str:
    """Its style sheet."""
    return _environment().get_template("page.css.j2").render()


def page_script() -> str:
    """Its script."""
    return (files("onmodel.judge") / "templates" / "page.js").read_text(encoding="utf-8")


def result_fragment(found: SessionResult) -> str:
    """The result as HTML, to be put into the page when the session has ended."""
    return _environment().get_template("result.html.j2").render(found=found)


def print_result(found: SessionResult, console: Console) -> None:
    """Print strengths, the judge's consistency, agreement of the axes, and what to keep in mind."""
    if not console.is_terminal:
        console = PlainConsole(file=console.file, width=max(console.width, PLAIN_WIDTH))
    console.print(found.question, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(found.signature, style="dim", highlight=False, soft_wrap=True)
    models = _table(
        "model",
        "strength, log-odds [95 %]",
        "preferred to the others [95 %]",
        "won",
        "lost",
        "tied",
    )
    for model in found.models:
        models.add_row(
            model.name,
            spelt(model.strength, signed=True),
            spelt(model.preferred),
            str(model.won),
            str(model.lost),
            str(model.tied),
        )
    console.print(models, highlight=False)
    judge = _table("the judge", "share [95 %]", "of")
    for words, share, of in judge_rows(found):
        judge.add_row(words, spelt(share), of)
    console.print(judge, highlight=False)
    axes = _table("axis", "agrees with the votes [95 %]", "decided pairs")
    for row in found.axes:
        axes.add_row(row.title, spelt(row.share), str(row.pairs))
    console.print(axes, highlight=False)
    for note in found.notes:
        console.print(f"- {note}", highlight=False, markup=False, soft_wrap=True)


def judge_rows(found: SessionResult) -> list[tuple[str, Interval | None, str]]:
    """What is known of the judge: words, share, what it is a share of."""
    votes = (
        sum(model.won for model in found.models) + sum(model.tied for model in found.models) // 2
    )
    return [
        ("ties", found.ties, f"{votes} pairs"),
        (
            "the same answer when shown again",
            found.repeated,
            f"{found.repeats} repeats, {found.reversed} reversed",
        ),
        ("the left picture", found.left, "decided answers, repeats too"),
    ]


def spelt(interval: Interval | None, signed: bool = False) -> str:
    """`0.71 [0.55, 0.83]`, or a dash."""
    if interval is None:
        return NOTHING
    form = "{:+.2f} [{:+.2f}, {:+.2f}]" if signed else "{:.2f} [{:.2f}, {:.2f}]"
    return form.format(interval.value, interval.low, interval.high)


def _table(*columns: str) -> Table:
    table = Table(header_style="bold", pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", no_wrap=True)
    return table


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("onmodel.judge"), jinja2.PackageLoader("onmodel.report")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(spelt=spelt, judge_rows=judge_rows)
    return environment
