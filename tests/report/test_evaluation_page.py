"""The page of one evaluation and its CSV files: whole, offline, and with the numbers of the
JSON."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import NotMeasured
from onmodel.evaluate.headlines import label
from onmodel.evaluate.observer_check import ObserverCheck
from onmodel.evaluate.observers.colour import SECTORS
from onmodel.report import evaluation_page, heat
from onmodel.report.board import notes
from onmodel.report.build import build_report
from onmodel.report.source import ReportSource
from onmodel.report.verdict import differences, pairs
from onmodel.report.wheel import wheel
from onmodel.text import decimal
from tests.support.html_reader import Reader


@pytest.fixture(scope="module")
def folder(source: ReportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("project") / "report"
    build_report(source, found)
    return found


def read(folder: Path, name: str) -> Reader:
    reader = Reader()
    reader.feed((folder / name).read_text(encoding="utf-8"))
    reader.close()
    return reader


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "name", ["evaluation-fresh.html", "evaluation-candidates.html", "tuning-dosed.html"]
)
def test_a_page_is_whole_and_leads_only_to_what_lies_beside_it(
    folder: Path, source: ReportSource, name: str
) -> None:
    reader, text = read(folder, name), (folder / name).read_text(encoding="utf-8")
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids)
    inside = [one for one in reader.found if not one.startswith("data:image/webp;base64,")]
    assert {one[1:] for one in inside if one.startswith("#")} <= set(reader.ids)
    for address in (one for one in inside if not one.startswith("#")):
        there = (
            folder / address
            if not address.startswith("../")
            else source.project / address.removeprefix("../")
        )
        assert there.exists() or there.name == "evaluation.json"
    assert not re.search(
        r"url\(|@import|fetch\(|XMLHttpRequest|https?://", re.sub(r"data:[^\"]+", "", text)
    )
    assert "default-src 'none'" in text and str(source.project) not in text
    assert "worse <by>" not in text and "<b>& at ease" not in text


def test_scores_of_the_csv_are_those_of_the_json_and_stand_on_the_page(
    folder: Path, source: ReportSource
) -> None:
    evaluation = source.evaluations["fresh"]
    axes = evaluation.axes
    found = {
        (row["model"], row["axis"]): row for row in rows(folder, "evaluation-fresh-scores.csv")
    }
    text = " ".join(read(folder, "evaluation-fresh.html").text)
    every = [(row.name, row.axes) for row in evaluation.models]
    every += [(arm, row.axes) for arm, row in evaluation.controls.items()]
    every += [
        (f"{row.name} without its negative prompt", row.negative.without)
        for row in evaluation.models
        if row.negative
    ]
    assert len(found) == sum(len(scores) for _, scores in every)
    for name, scores in every:
        for id, score in scores.items():
            line = found[name, id]
            if isinstance(score, NotMeasured):
                assert line["value"] == "" and line["why"] == score.why
                continue
            assert [float(line[key]) for key in ("value", "low", "high")] == [
                score.value,
                score.low,
                score.high,
            ]
            assert (int(line["n"]), line["signature"]) == (score.n, score.signature)
            assert axes[id].text(score.value) in text
            assert axes[id].span(score.low, score.high) in text


def test_who_looked_and_which_prompts_tell_an_axis_stand_under_the_table(
    folder: Path, source: ReportSource
) -> None:
    text = " ".join(" ".join(read(folder, "evaluation-fresh.html").text).split())
    assert (
        "Observers: tagger (toon, mit); copy embedding (hf://somebody/copies, licence not"
        " declared)." in text
    )
    evaluation = source.evaluations["fresh"]
    models = [
        replace(row, axes={**row.axes, "style": replace(row.scores["style"], n=4)})
        for row in evaluation.models
    ]
    evaluation = replace(evaluation, models=models)
    told, _ = notes(
        replace(source, evaluations={**source.evaluations, "fresh": evaluation}).about("fresh")
    )
    assert (
        told
        == f"Measured on fewer than the {len(evaluation.plan.prompts)} prompts: style fixation (4)."
    )


def test_every_prompt_has_its_number_in_the_csv(folder: Path, source: ReportSource) -> None:
    lines = rows(folder, "evaluation-fresh-prompts.csv")
    told = {(row["model"], row["axis"], row["prompt"]): float(row["value"]) for row in lines}
    for row in source.evaluations["fresh"].models:
        for axis, values in row.per_prompt.items():
            assert {prompt: told[row.name, axis, prompt] for prompt in values} == values


def test_any_two_models_differ_on_the_page_and_in_the_csv_by_the_same(
    folder: Path, source: ReportSource
) -> None:
    evaluation = source.evaluations["fresh"]
    lines = {
        (row["model"], row["against"], row["axis"]): row
        for row in rows(folder, "evaluation-fresh-differences.csv")
    }
    text = (folder / "evaluation-fresh.html").read_text(encoding="utf-8")
    page = json.loads(text.split('id="differences">')[1].split("</script>")[0])
    names = evaluation.names
    assert set(page) == set(names) and all(set(page[name]) == set(names) - {name} for name in names)
    expected = differences(source.about("fresh"))["merged", "preview@20"]
    assert {"better", "unavailable"} <= {one.outcome for one in expected}
    for at, one in enumerate(expected):
        there, back = (
            lines["merged", "preview@20", one.axis.id],
            lines["preview@20", "merged", one.axis.id],
        )
        assert page["merged"]["preview@20"][at][0] == there["outcome"] == one.outcome
        assert page["merged"]["preview@20"][at][2] == one.change
        if one.outcome != "unavailable":
            assert [float(there[key]) for key in ("gain", "low", "high", "p")] == [
                one.gain,
                one.low,
                one.high,
                one.p,
            ]
            assert math.isclose(float(back["gain"]), -one.gain)
    against = {"better": "worse", "worse": "better"}
    for key, row in lines.items():
        turned = lines[key[1], key[0], key[2]]["outcome"]
        assert turned == against.get(row["outcome"], row["outcome"])


def test_many_models_are_compared_with_the_shown_one_only() -> None:
    names = [f"a@{epoch}" for epoch in range(20)]
    assert len(pairs(names[:16], "a@3")) == 120
    assert len(pairs(names, "a@3")) == 19 and all("a@3" in pair for pair in pairs(names, "a@3"))


def test_what_was_asked_and_seen_is_the_mean_of_the_answers(
    folder: Path, source: ReportSource
) -> None:
    evaluation = source.evaluations["fresh"]
    prompts, row = evaluation.plan.prompts, evaluation.models[0]
    assert heat.attributes(prompts, row) == ["expression", "framing", "background", "style"]
    asking = [prompt.id for prompt in prompts if prompt.asked.get("expression") == "smile"]
    seen = [np.mean(row.answers[id]["expression"]["sad"]) for id in asking]
    count, cells = heat.confusions(prompts, row, "expression")["smile"]
    assert count == len(asking) and cells["sad"] == pytest.approx(np.mean(seen))
    table = heat.confusion(prompts, row, "expression")
    smile = next(line for line in table.rows if line.label == "smile")
    assert [cell.marked for cell in smile.cells] == [name == "smile" for name in table.columns]
    text = " ".join(read(folder, "evaluation-fresh.html").text)
    assert all(cell.text in text for line in table.rows for cell in line.cells)


def test_the_pull_of_a_subset_s_style_is_told_for_every_model(
    folder: Path, source: ReportSource
) -> None:
    models = source.evaluations["fresh"].models
    table = heat.pulls(models)
    assert (
        table is not None
        and table.columns == ["comics", "plain"]
        and len(table.rows) == len(models)
    )
    for line, row in zip(table.rows, models, strict=True):
        share = row.style_pull.pull_by_subset["comics"]
        assert [cell.text for cell in line.cells] == [decimal(share, 2), ""] and line.cells[
            0
        ].shade == min(share, 1)
    assert heat.pulls([replace(row, details={"style": {"pull": 0.1}}) for row in models]) is None
    assert all(
        line.cells[0].text in " ".join(read(folder, "evaluation-fresh.html").text)
        for line in table.rows
    )


def test_hues_are_told_by_kind_of_prompt_and_region(folder: Path, source: ReportSource) -> None:
    evaluation = source.evaluations["fresh"]
    prompts, row = evaluation.plan.prompts, evaluation.models[0]
    told = row.hue_gain
    table = heat.hues(prompts, row, reach=10.0)
    assert table is not None and list(table.columns) == list(SECTORS)
    style = next(line for line in table.rows if line.label == "style")
    ids = [prompt.id for prompt in prompts if prompt.kind == "style"]
    yellow = np.mean([told.prompts[id]["whole"][SECTORS.index("yellow")] for id in ids])
    assert style.count == len(ids) and style.cells[SECTORS.index("yellow")].text == decimal(
        yellow, 1, signed=True
    )
    assert style.cells[SECTORS.index("blue")].shade < 0 < style.cells[SECTORS.index("yellow")].shade
    text = " ".join(read(folder, "evaluation-fresh.html").text)
    for region in (told.whole, told.background):
        assert decimal(region["yellow"], 1, signed=True) in text


def test_a_wedge_stands_out_for_a_gain_and_in_for_a_loss() -> None:
    svg = str(
        wheel(
            "t", {hue: {"yellow": 5.0, "blue": -5.0}.get(hue, 0.0) for hue in SECTORS}, reach=10.0
        )
    )
    wedges = dict(zip(SECTORS, re.findall(r'<path[^>]*d="([^"]+)"', svg), strict=True))

    def far(hue: str) -> float:
        x, y = map(float, re.split(r"[ A]", wedges[hue].split("L")[1])[:2])
        return math.hypot(x - 150, y - 150)

    assert far("yellow") == pytest.approx(62 + 24, abs=0.1) and far("blue") == pytest.approx(
        62 - 24, abs=0.1
    )
    assert svg.count('class="loss"') == 11 and ">+5.0<" in svg and ">−5.0<" in svg


def test_entanglement_leaves_blank_what_nobody_measured(source: ReportSource) -> None:
    row = source.evaluations["fresh"].models[0]
    table = heat.entangled(row, fault=0.25)
    assert table is not None and list(table.columns) == ["expression", "style", "framing"]
    assert [cell.text for cell in table.rows[1].cells] == ["−0.02", "", ""]
    shift = row.entangled.matrix["expression"]["style"]
    assert table.rows[0].cells[1].text == decimal(shift, 2, signed=True)
    assert table.rows[0].cells[1].shade == pytest.approx(min(1.0, shift / 0.25), abs=0.01)


def test_the_nearest_training_pictures_stand_beside_what_was_drawn(
    folder: Path, source: ReportSource
) -> None:
    text = (folder / "evaluation-fresh.html").read_text(encoding="utf-8")
    for row in source.evaluations["fresh"].models:
        block = text.split(f'<p class="note">{label(row.name)}: pictures that')[1].split(
            "</div>\n  </div>"
        )[0]
        assert [float(one) for one in re.findall(r"<b>([\d.]+)</b>", block)] == [0.99, 0.89, 0.79]
        assert block.count("suspicious") == 1 and block.count("<img") == 6
        assert all(one.training in block for one in row.near_copies.nearest)


def test_what_a_negative_prompt_helps_and_leaves_is_told(
    folder: Path, source: ReportSource
) -> None:
    text = (
        (folder / "evaluation-fresh.html")
        .read_text(encoding="utf-8")
        .split('<section id="negative">')[1]
    )
    text = text.split("</section>")[0]
    assert (
        "helps colour cast without reaching the ideal there; harms prompt responsiveness." in text
    )
    cast = AXES["colour_cast"][0]
    line = next(row for row in text.split("<tr>") if f"{cast.title} <small>" in row)
    assert (
        "+9.2" in line
        and "off the ideal" in line
        and decimal(0.4 * cast.fault, 1, signed=True) in line
    )
    undecided = [text.count(f'class="outcome">{word}<') for word in ("same", "open")]
    assert sum(undecided) == 1 and "within noise of it" in text


def test_an_evaluation_that_knows_no_training_pictures_has_no_such_section(folder: Path) -> None:
    reader = read(folder, "evaluation-candidates.html")
    assert "copies" not in reader.ids and "two" in reader.ids


def test_what_an_observer_cannot_read_is_told(source: ReportSource) -> None:
    checks = {
        "expression": ObserverCheck("expression", 0.48, 12, "references", "AUC", 0.3, 0.66),
        "style": ObserverCheck("style", 0.97, 48, "the base's pictures", "AUC", 0.66, 0.99),
        "body": ObserverCheck("body", None, 2, "references"),
    }
    assert source.published is not None
    rows = evaluation_page.check_rows(replace(source.published, checks=checks))
    assert [(row["subject"], row["value"], row["passed"]) for row in rows] == [
        ("body", "not known", False),
        ("expression", "0.48", False),
        ("style", "0.97", True),
    ]
    assert (rows[2]["span"], rows[2]["note"]) == ("0.66…0.99", "shown on 48 pictures only")


def test_a_tuning_draws_every_weight_and_writes_every_look(
    folder: Path, source: ReportSource
) -> None:
    tuning = source.selections["dosed"]
    text = (folder / "tuning-dosed.html").read_text(encoding="utf-8")
    curves = text.split('aria-label="reproduction stability over the LoRA weight"')[1].split(
        "</svg>"
    )[0]
    assert (
        curves.count("<circle") == 6
        and curves.count("chosen") == 1
        and "base drift over" not in text
    )
    assert "release_2@40 × 1.2" in text and "worse &lt;by&gt; 0.2" in text
    lines = rows(folder, "tuning-dosed.csv")
    looks = [(at, row) for at, one in enumerate(tuning.rounds, 1) for row in one.measured]
    assert len(lines) == 2 * len(looks)
    for at, row in looks:
        (line,) = [
            one
            for one in lines
            if (one["round"], one["model"], one["weight"], one["axis"])
            == (str(at), row.model, str(row.weight), "reproduction")
        ]
        assert float(line["value"]) == row.score("reproduction").value
    assert {line["why"] for line in lines if line["axis"] == "drift"} == {"arm N was not generated"}
