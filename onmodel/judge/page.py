"""The session's page, and the result as part of it."""

from importlib.resources import files

import jinja2

from onmodel.evaluate.statistics import Interval
from onmodel.judge.result import SessionResult
from onmodel.judge.session import Session
from onmodel.report.pages import environment

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


def _environment() -> jinja2.Environment:
    templates = environment("onmodel.judge")
    templates.globals.update(spelt=spelt, judge_rows=judge_rows)
    return templates
