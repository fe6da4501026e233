"""The page and summary.json: whole, safe, the same every time."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from onmodel.errors import StateError
from onmodel.report.build import build_report, page_of, write_summary
from onmodel.report.grid import build_grid, missed
from onmodel.report.pictures import Thumbnails, encode
from onmodel.report.source import ReportSource
from tests.support.evaluations import prompt as made_up_prompt
from tests.support.html_reader import Reader
from tests.support.report_project import made_up


@pytest.fixture(scope="module")
def page(source: ReportSource, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    build_report(source, folder)
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    found = Reader()
    found.feed(page)
    found.close()
    return found


def test_elements_close_and_ids_are_single(reader: Reader) -> None:
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)


def test_the_page_asks_nothing_of_the_network(page: str, reader: Reader) -> None:
    pages = {"evaluation-fresh.html", "evaluation-candidates.html", "tuning-dosed.html"}
    assert all(
        address.startswith(("data:image/webp;base64,", "#")) or address in pages
        for address in reader.found
    )
    assert not re.search(
        r"url\(|@import|fetch\(|XMLHttpRequest|https?://", re.sub(r"data:[^\"]+", "", page)
    )
    assert "default-src 'none'" in page


def test_every_section_is_there_and_linked(reader: Reader) -> None:
    sections = {"result", "table", "charts", "evaluations", "data", "choices", "lineage", "again"}
    assert sections <= set(reader.ids)
    assert {address[1:] for address in reader.found if address.startswith("#")} <= set(reader.ids)


def test_what_people_wrote_is_escaped(source: ReportSource, page: str, tmp_path: Path) -> None:
    assert (
        "<b>& at ease</b>" not in page and "&lt;b&gt;&amp; at ease&lt;/b&gt;" in page
    )  # of the best pictures
    build_report(
        replace(source, title="</title><script>x", recipe_text="</pre><script>y"), tmp_path
    )
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>x" not in text and "<script>y" not in text and text.count("<script>") == 1


def test_numbers_of_the_page_are_those_of_the_evaluation(
    source: ReportSource, reader: Reader
) -> None:
    text = " ".join(reader.text)
    for row in source.measured.values():
        assert f"{row.scores['reproduction'].value:.2f}" in text
    assert source.evaluations["fresh"].signature in text


def test_the_same_run_gives_the_same_bytes_in_another_folder(page: str, tmp_path: Path) -> None:
    build_report(made_up(tmp_path / "elsewhere"), tmp_path / "report")
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == page


def test_no_path_of_the_machine_is_told(source: ReportSource, page: str) -> None:
    assert str(source.project) not in page and "release/backgwa" in page


def test_a_run_without_release_or_evaluation_has_a_page(
    source: ReportSource, tmp_path: Path
) -> None:
    bare = replace(
        source,
        evaluations={},
        selections={},
        merges={},
        searches={},
        datasets={},
        training={},
        final=None,
        confirm=None,
        release=None,
        lineage=None,
    )
    build_report(bare, tmp_path)
    assert "Nothing was compared" in (tmp_path / "index.html").read_text(encoding="utf-8")
    write_summary(bare, tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["models"] == []


def test_summary(source: ReportSource, tmp_path: Path) -> None:
    write_summary(source, tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (summary["final"], summary["release"]) == ("refined@10", "release/backgwa")
    assert summary["seconds"] == dict(source.seconds)
    assert set(summary["models"][0]["axes"]["style"]) == {
        "value",
        "low",
        "high",
        "n",
        "arm",
        "signature",
    }
    assert summary["models"][0]["axes"]["drift"] == {
        "value": None,
        "why": "arm N was not generated",
    }
    assert summary["verdict"][0].startswith("Better than Preview @20")


def test_worst_prompts_come_first_for_each_model(source: ReportSource) -> None:
    grid = build_grid(source, Thumbnails(source.folders))
    assert grid is not None
    keys = list(grid.keys)
    assert [row.orders["refined@10"][keys.index("asked")] for row in grid.rows] == list(range(10))
    for name in ("refined@10", "preview@20"):
        cast = source.measured[name].per_prompt["colour_cast"]
        worst = min(grid.rows, key=lambda row: row.orders[name][keys.index("colour_cast")])
        assert cast[worst.id] == max(cast.values(), key=abs)
    both = {row.id: row.orders["preview@20"][0] for row in grid.rows}
    values = [
        source.measured["preview@20"].per_prompt[axis]
        for axis in ("reproduction", "responsiveness")
    ]
    spread = [max(found.values()) - min(found.values()) for found in values]
    badness = {
        id: sum(-found[id] / wide for found, wide in zip(values, spread, strict=True))
        for id in both
    }
    assert sorted(both, key=lambda id: both[id]) == sorted(badness, key=lambda id: -badness[id])


def test_under_a_picture_stands_what_it_missed(source: ReportSource) -> None:
    row = source.measured[
        "preview@20"
    ]  # a bad one: 0.45 sure at its first seed, 0.25 at the second
    prompt = made_up_prompt("x", expression="smile")
    answers = {"x": {"expression": {"smile": [0.6, 0.4], "sad": [0.4, 0.6]}}}
    details = {"reproduction": {"threshold": 0.6, "agreement": {"x": [0.7, 0.5]}}}
    told = replace(row, answers=answers, details=details)
    assert missed(told, prompt, 0) == []
    assert missed(told, prompt, 1) == ["smile → sad", "other character"]
    grid = build_grid(source, Thumbnails(source.folders))
    assert grid is not None
    assert any("→" in words for words in grid.rows[0].cells[0].misses)
    assert set(grid.rows[0].cells[7].misses) == {""}  # without the trigger nobody asked for her


def test_a_row_shows_every_model_then_the_arms(source: ReportSource) -> None:
    grid = build_grid(source, Thumbnails(source.folders))
    assert grid is not None
    labels = [cell.label for cell in grid.rows[0].cells]
    assert labels[0] == "Preview @20" and labels[6:] == [
        "Refined @10",
        "Refined @10, no trigger",
        "base, same prompt",
        "base, design in words",
    ]
    assert all(len(cell.uris) == 2 for cell in grid.rows[0].cells)
    assert "backgwa" not in grid.rows[0].cells[7].text


def test_a_budget_drops_seeds_first_then_the_better_prompts(source: ReportSource) -> None:
    thumbnails = Thumbnails(source.folders)
    full = build_grid(source, thumbnails)
    assert full is not None and full.left_out == ""
    sizes = [sum(len(cell.uris[0]) for cell in row.cells) for row in full.rows]
    one_seed = build_grid(source, thumbnails, budget=sum(sizes) + 10)
    assert one_seed is not None and one_seed.seeds == (0,) and "1 of 2 seeds" in one_seed.left_out
    few = build_grid(source, thumbnails, budget=sum(sizes[:2]) + 10)
    assert (
        few is not None
        and [row.id for row in few.rows] == [row.id for row in full.rows[:2]]
        and "2 worst of 10" in few.left_out
    )


def test_data_tells_repeats_and_exposures(source: ReportSource) -> None:
    base, alignment, additional = page_of(source, Thumbnails(source.folders))["data"][0]["subsets"]
    assert (base["train"], base["heldout"], base["origins"]) == (35, 5, {"toon": 40})
    assert [(use["label"], use["exposures"]) for use in alignment["uses"]] == [
        ("Release 1", 80),
        ("Release 2", 160),
        ("Refined", 10),
    ]
    assert len(additional["pictures"]) <= 14


def test_large_pictures_shrink_and_broken_ones_are_named(tmp_path: Path) -> None:
    Image.effect_noise((1024, 768), 80).save(tmp_path / "large.png")
    assert len(encode(tmp_path / "large.png")) < 100_000
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(StateError, match=r"broken\.png"):
        encode(tmp_path / "broken.png")


def test_a_lost_picture_stops_the_report_and_leaves_the_old_one(
    source: ReportSource, tmp_path: Path
) -> None:
    shutil.copytree(source.folders["fresh"], tmp_path / "fresh")
    for picture in (tmp_path / "fresh" / "pictures").iterdir():  # not every one is on the page
        picture.unlink()
    (tmp_path / "index.html").write_text("old")
    with pytest.raises(StateError, match="cannot be read"):
        build_report(
            replace(
                source,
                folders={**source.folders, "fresh": tmp_path / "fresh"},
                project=Path(tmp_path.anchor),
            ),
            tmp_path,
        )
    assert (tmp_path / "index.html").read_text() == "old"
