"""The top of a page: what changed, in a few sentences with a pair of pictures each."""

from collections.abc import Mapping
from dataclasses import dataclass

from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.headlines import Headline, label
from onmodel.report.pictures import SMALL, Thumbnails
from onmodel.report.source import ReportSource
from onmodel.report.verdict import result


@dataclass(frozen=True)
class ShownPicture:
    """A picture with the model that drew it and its prompt, as the page shows it."""

    uri: str
    model: str
    prompt: str


@dataclass(frozen=True)
class ShownChange:
    """A sentence with its pictures: the other model's and the shown model's, at equal noise."""

    outcome: str
    sentence: str
    remedy: str
    pictures: list[ShownPicture]


def top_of(source: ReportSource, thumbnails: Thumbnails) -> dict[str, object]:
    """What the top of a page shows: changes, how many more there are, what is the same, and what is
    open."""
    found = result(source)
    if found is None:
        return {"changes": [], "further": 0, "same": "", "open": "", "compared": False}
    return {
        "changes": [_change(one, source, thumbnails) for one in found.changes],
        "further": found.further,
        "same": found.same,
        "open": found.open,
        "compared": True,
    }


def _change(one: Headline, source: ReportSource, thumbnails: Thumbnails) -> ShownChange:
    evaluation, stage, shown = source.published, source.published_name, source.shown
    assert evaluation is not None and stage is not None and shown is not None
    words = {prompt.id: prompt.text["L"] for prompt in evaluation.plan.prompts}
    pictures = []
    for name in (one.comparison.against, shown):
        file = _first_picture(source.measured, name, one.prompt)
        if file:
            uri = thumbnails.encoded(stage, file, SMALL)
            pictures.append(ShownPicture(uri, label(name), words.get(one.prompt, "")))
    return ShownChange(one.comparison.outcome, one.sentence, one.remedy, pictures)


def _first_picture(measured: Mapping[str, EvaluatedModel], name: str, prompt: str) -> str:
    """A model's first picture of a prompt, relative to the evaluation; "" for none."""
    files = measured[name].pictures.get("L", {}).get(prompt) if name in measured else None
    return files[0] if files else ""
