"""One page of two runs on different bases."""

from dataclasses import replace
from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.evaluate.evaluation import read_evaluation
from onmodel.report.across import write_across
from onmodel.report.source import ReportSource
from tests.support.report_project import made_up


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[ReportSource]:
    return [made_up(tmp_path_factory.mktemp(name)) for name in ("first", "second")]


def test_the_page_compares_the_models_of_both_prompt_by_prompt(
    sources: list[ReportSource], tmp_path: Path
) -> None:
    sentences = write_across(sources, ["toon", "toon-sdxl"], out := tmp_path / "out")
    joined = read_evaluation(out / "evaluation.json")
    shown = sources[0].shown
    assert joined.names == [f"{shown} on toon", f"{shown} on toon-sdxl"]
    assert list(joined.against) == [f"{shown} on toon"]
    assert sentences and any("on toon" in line for line in sentences)
    for model in joined.models:
        for prompts in model.pictures.values():
            assert all((out / file).is_file() for files in prompts.values() for file in files)
    assert "on toon-sdxl" in (out / "report" / "evaluation-across.html").read_text()
    # equal models differ nowhere
    page = (out / "report" / "evaluation-across-differences.csv").read_text()
    assert "better" not in page and "worse" not in page


def test_other_prompts_are_refused(sources: list[ReportSource], tmp_path: Path) -> None:
    first, second = sources
    name, evaluation = str(second.published_name), second.published
    assert evaluation is not None
    fewer = replace(evaluation.plan, prompts=evaluation.plan.prompts[1:])
    other = replace(second, evaluations={name: replace(evaluation, plan=fewer)})
    with pytest.raises(InputError, match=r"plan\.prompts: .* differ between the two"):
        write_across([first, other], ["a", "b"], tmp_path / "out")
    nothing = replace(second, evaluations={}, confirm=None)
    with pytest.raises(InputError, match="no finished evaluation"):
        write_across([first, nothing], ["a", "b"], tmp_path / "out")
