"""README.md, the model card: a template with measured numbers, the history and the author's own
text.

The result is the sentences of the evaluation's page (evaluate/headlines.py), and every number with
an interval is a value of the evaluation's tables. tables.py checks the finished text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from onmodel.character import Character
from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import TESTED, WORDS
from onmodel.evaluate.evaluation import Evaluation
from onmodel.evaluate.plan import share_prompts
from onmodel.families.licences import LicensedBase
from onmodel.ledger.lineage import Lineage, root
from onmodel.release.history import (
    data_rows,
    experiments,
    merge_rows,
    signatures_chosen_on,
    strangers,
    training_rows,
)
from onmodel.release.licences import BASES
from onmodel.release.sidecars import Sample
from onmodel.release.tables import CONTROL, RESULT, ReleaseResult, Value, unavailable, values
from onmodel.sample.sampling import Sampling
from onmodel.text import capital, code_span, markdown, printable


@dataclass(frozen=True)
class Card:
    """Everything that the card is made from. `model` and `previous` are names in the evaluation."""

    title: str
    file_name: str
    date: str
    payload_sha256: str
    character: Character
    base_name: str
    base: LicensedBase
    sampling: Sampling
    samples: Sequence[Sample]
    triggers: Sequence[Mapping[str, object]]
    evaluation: Evaluation
    model: str
    previous: str | None
    result: ReleaseResult
    lineage: Lineage
    train_notes: str
    partial: Sequence[str] = ()  # programs that load some of the layers

    def render(self) -> str:
        """The card's Markdown, the same bytes for the same facts."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )
        environment.filters |= {
            "quoted": _quoted,
            "g": lambda number: f"{number:g}",
            "cell": _table_cell,
            "md": markdown,
            "code": code_span,
            "said": _said,
        }
        return environment.get_template("card.md.j2").render(self._words())

    def _words(self) -> dict[str, object]:
        known = {(row.axis, row.model): row for row in values(self.evaluation)}
        axes = self.evaluation.axes
        names = self.evaluation.names
        with_values = {axis for axis, name in known if name in names}
        measured = [axis for axis in axes if axis in with_values]
        against = self.evaluation.against or list(filter(None, [self.previous]))
        columns = [self.model, *([self.previous] if self.previous else []), CONTROL]

        def cells(axis_ids: Sequence[str], models: Sequence[str]) -> list[Any]:
            return [_cell(known, axis, model) for axis in axis_ids for model in models]

        return vars(self) | {
            "licence": self.base.licence,
            "axes": axes,
            "outcomes": [(outcome, capital(WORDS[outcome])) for outcome in TESTED],
            "result_heading": RESULT,
            "rivals": [name for name in against if name != self.model],
            "sentences": self.result.sentences,
            "changes": self.result.changes,
            "plan": self.evaluation.plan,
            "seeds": len(self.evaluation.plan.seeds),
            "signature": self.evaluation.signature,
            "chosen_on": self._chosen_on,
            "columns": columns,
            "results": [(axes[axis], cells([axis], columns)) for axis in measured],
            "compared": [(name, cells(measured, [name])) for name in names],
            "measured": [axes[axis] for axis in measured],
            "data": data_rows(self.lineage),
            "trainings": training_rows(self.lineage),
            "merges": merge_rows(self.lineage),
            "experiments": experiments(self.lineage),
            "limits": self._limits(axes, measured),
        }

    @property
    def _chosen_on(self) -> bool:
        """Whether a model of this history was chosen on prompts that give the published numbers."""
        chosen = signatures_chosen_on(self.lineage)
        return any(share_prompts(self.evaluation.signature, one) for one in chosen)

    def _limits(self, axes: Mapping[str, Axis], measured: Sequence[str]) -> list[str]:
        worse = [
            axes[row.axis].title.lower() for row in self.result.changes if row.outcome == "worse"
        ]
        lines = []
        if self._chosen_on:
            lines.append(
                "Models were chosen on these same prompts, so the numbers flatter the released one."
            )
        if worse:
            lines.append(f"Clearly worse than {code_span(self.previous)}: {', '.join(worse)}.")
        lines += [f"{axes[axis].heading}: {axes[axis].limits}" for axis in measured]
        lines += [
            f"{axes[axis].heading} was not measured: {markdown(why)}."
            for axis, why in unavailable(self.evaluation, self.model).items()
        ]
        lines += [
            f"A part of it ({sha256[:12]}…) is a file of unknown origin: how it was made and"
            " trained is not known."
            for sha256 in strangers(self.lineage)
        ]
        return lines


def card_facts(
    evaluation: Evaluation, lineage: Lineage, triggers: Sequence[Mapping[str, object]]
) -> list[Any]:
    """All facts, beside the evaluation's values, that a number on the card may come from. lint_card
    compares the card with them.

    `lineage` is the release's own; its newest node is the release.
    """
    plan = evaluation.plan
    sizes = [len(plan.prompts), len(plan.seeds), len(evaluation.axes)]
    settings = asdict(replace(plan, prompts=(), seeds=(), observers={}))
    recorded = [
        data_rows(lineage),
        training_rows(lineage),
        merge_rows(lineage),
        experiments(lineage),
        strangers(lineage),
    ]
    labels = [row["label"] for row in triggers]
    titles = [(base.title, base.licence.title) for base in BASES.values()]
    reasons = [list(unavailable(evaluation, row.name).values()) for row in evaluation.models]
    return [
        sizes,
        settings,
        [axis.as_dict() for axis in evaluation.axes.values()],
        recorded,
        lineage[root(lineage)],
        labels,
        titles,
        reasons,
    ]


def _cell(known: Mapping[tuple[str, str], Value], axis: str, model: str) -> str:
    row = known.get((axis, model))
    return row.text if row else "not measured"


def _table_cell(text: str) -> str:
    """Code that stays in one cell of a Markdown table; `markdown` minds the bar itself."""
    return text.replace("|", r"\|")


def _said(text: str) -> str:
    """The author's own words, as a Markdown quote."""
    return "\n".join(f"> {markdown(line)}".rstrip() for line in text.strip().splitlines())


def _quoted(text: str) -> str:
    """A double-quoted string, which YAML and Python read alike."""
    return printable(json.dumps(text, ensure_ascii=False))
