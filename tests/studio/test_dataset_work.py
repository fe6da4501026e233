"""Work on a data set in the data room: the audit, its findings, and what is decided from them."""

import time
from collections.abc import Iterator

import pytest

from onmodel.curate.workshop import open_workshop
from tests.support.studio import DataRoom, serving
from tests.support.toon_pictures import toon_picture

COUNT = 10
WAIT = 120  # seconds for a process that loads observers, on a busy machine


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoom]:
    """An imported data set whose last picture has no caption and whose first is there twice."""
    folder = tmp_path_factory.mktemp("workspace")
    with serving(folder) as browser:
        pictures = {f"{i}.png": toon_picture(i)[0] for i in range(COUNT)}
        captions = {f"{i}.txt": toon_picture(i)[1].encode() for i in range(COUNT - 1)}
        copy = {"copy.png": toon_picture(0)[0], "copy.txt": captions["0.txt"]}
        yield DataRoom.made(browser, folder, pictures | captions | copy)


def ended(room: DataRoom) -> str:
    """The page of the job when it ends."""
    until = time.monotonic() + WAIT
    while "data-ended" not in (shown := room.get("job").text):
        assert time.monotonic() < until, shown
        time.sleep(0.2)
    return shown


@pytest.fixture(scope="module")
def audited(room: DataRoom) -> DataRoom:
    assert 'role="status"' in room.form("job", ("do", "audit"), ("tagger", "")).text
    assert room.form("job", ("do", "audit"), ("tagger", "")).status == 409  # one at a time
    shown = ended(room)
    assert "Findings of the audit" in shown and "mistake" not in shown
    return room


def test_an_audit_shows_findings_by_kind_that_filter_the_grid(audited: DataRoom) -> None:
    shown = audited.get("findings").text
    assert "finding:&#34;repeat: exact&#34;" in shown or 'finding:"repeat: exact"' in shown
    found = audited.get("rows?q=finding:%22repeat:%20exact%22").json()
    assert found["total"] == 1 and found["rows"][0]["findings"]


def test_all_fixes_of_a_kind_are_counted_then_applied_as_one_step(audited: DataRoom) -> None:
    shown = audited.get("fix-kind?kind=repeat:%20exact").text
    assert "1 picture would change" in shown
    assert audited.get("rows?q=is:excluded").json()["total"] == 0
    answer = audited.form("fix-kind", ("kind", "repeat: exact"))
    assert answer.headers["hx-trigger"] == "dataset-changed" and "1 picture changed" in answer.text
    assert audited.get("rows?q=is:excluded").json()["total"] == 1
    audited.post("undo")
    assert audited.get("rows?q=is:excluded").json()["total"] == 0


def repeat_in(room: DataRoom) -> tuple[str, str]:
    """The picture that is there twice, and the other."""
    (row,) = room.get("rows?q=finding:%22repeat:%20exact%22").json()["rows"]
    same = "the same file as "
    (other,) = (f["evidence"] for f in row["findings"] if f["evidence"].startswith(same))
    return row["name"], other.removeprefix(same)


def test_one_of_two_repeats_is_kept_by_hand_as_one_step(audited: DataRoom) -> None:
    shown = audited.get("pair").text
    assert "1 / " in shown and "the same file as" in shown
    name, other = repeat_in(audited)
    answer = audited.form("pair", ("keep", name), ("exclude", other))
    assert answer.status == 200 and other not in answer.text
    assert [row["name"] for row in audited.get("rows?q=is:excluded").json()["rows"]] == [other]
    audited.post("undo")
    assert audited.get("rows?q=is:excluded").json()["total"] == 0


def test_two_repeats_that_are_both_kept_are_not_asked_about_again(audited: DataRoom) -> None:
    name, other = repeat_in(audited)
    answer = audited.form("pair", ("keep", name), ("keep", other))
    assert "the same file as" not in answer.text
    audited.post("undo")
    assert "the same file as" in audited.get("pair").text


def test_a_pair_of_unknown_pictures_is_one_line(audited: DataRoom) -> None:
    assert audited.form("pair", ("keep", "x/y")).status == 422


def test_a_picture_is_shown_large(audited: DataRoom) -> None:
    row = audited.get("rows").json()["rows"][0]
    address = audited.address.removesuffix("/data")
    answer = audited.browser.get(f"{address}/picture/{row['content']}")
    assert answer.body.startswith(b"\xff\xd8") and "immutable" in answer.headers["cache-control"]


def test_a_tag_is_completed_with_its_number_of_pictures(room: DataRoom) -> None:
    tag = room.get("rows").json()["rows"][0]["tags"][0][0]
    found = room.get(f"tags?word={tag[:2]}").json()
    assert found and all({"tag", "pictures", "alias"} == set(row) for row in found)
    assert room.get("tags").json() == []


def test_a_kind_that_the_audit_did_not_find_is_one_line(audited: DataRoom) -> None:
    answer = audited.get("fix-kind?kind=nothing")
    assert answer.status == 422 and "the last audit found" in answer.json()["error"]


def test_a_wrong_tagger_is_one_line_and_changes_nothing(audited: DataRoom) -> None:
    before = open_workshop(audited.folder / "data").journal
    for field, value in (("tagger", "/etc"), ("hub", "/etc"), ("hub", "owner/name")):
        answer = audited.form("job", ("do", "audit"), (field, value))
        assert answer.status == 422 and answer.json()["error"].startswith("tagger: ")
    assert open_workshop(audited.folder / "data").journal == before


def test_another_base_needs_a_tagger_of_its_own(audited: DataRoom) -> None:
    recipe = audited.folder / "recipe.toml"
    toon = recipe.read_text()
    recipe.write_text(toon.replace('base = "toon"', 'base = { folder = "base" }'))
    answer = audited.form("job", ("do", "audit"))
    recipe.write_text(toon)
    assert answer.status == 422 and "tagger: none" in answer.json()["error"]


def test_a_job_can_be_stopped(audited: DataRoom) -> None:
    audited.form("job", ("do", "audit"), ("tagger", ""))
    audited.post("job/stop")
    assert "Nothing was recorded" in ended(audited)


def test_what_has_no_tags_is_tagged_as_one_step(room: DataRoom) -> None:
    assert room.get("rows?q=is:uncaptioned").json()["total"] == 1
    room.form("job", ("do", "tag"))
    assert "Tagged pictures: 1" in ended(room)
    found = room.get("rows?q=by:tagger").json()
    assert found["total"] == 1 and len(found["rows"][0]["tags"]) > 3
    room.post("undo")
    assert room.get("rows?q=is:uncaptioned").json()["total"] == 1


def test_missing_sentences_are_written_as_one_step(room: DataRoom) -> None:
    room.form("job", ("do", "caption"))
    assert f"Written sentences: {COUNT + 1}" in ended(room)
    assert all(row["sentence"] for row in room.get("rows?q=is:captioned").json()["rows"])
    room.post("undo")
    assert not any(row["sentence"] for row in room.get("rows").json()["rows"])


@pytest.mark.parametrize(
    ("fields", "line"),
    [((("do", "odd"),), "use audit, tag"), ((("do", "caption"), ("endpoint", "x")), "http")],
)
def test_wrong_work_is_one_line(
    room: DataRoom, fields: tuple[tuple[str, str], ...], line: str
) -> None:
    answer = room.form("job", *fields)
    assert line in (answer.text if answer.status == 422 else ended(room))
