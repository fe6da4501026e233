"""`onmodel dataset …` as a user types it: heap, audit, mend, undo, plan, choose, page, folders."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.curate.gather import gather
from onmodel.curate.masks import NONE
from onmodel.curate.workshop import Decision, open_workshop
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.toon.heap import plant_heap
from tests.support.chat_server import serving
from tests.support.command_line import onmodel
from tests.support.toon_pictures import write_pictures

SHEET = Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml"


def dataset(*words: object) -> subprocess.CompletedProcess[str]:
    return onmodel("dataset", *words)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    plant_heap(folder / "heap", 60, 5)
    (folder / "heap" / "base" / "torn.png").write_bytes(b"\x89PNG torn")
    made = dataset(
        "import",
        folder / "heap",
        "--out",
        folder / "work",
        "--origin",
        "a renderer",
        "--rights",
        "MIT",
    )
    assert made.returncode == 0, made.stderr
    assert "60 pictures, 1 files refused" in made.stdout and "base/torn.png" in made.stdout
    audited = dataset("audit", folder / "work", "-c", SHEET)
    assert audited.returncode == 0, audited.stderr
    return folder / "work"


def test_the_whole_way(work: Path) -> None:
    findings = json.loads((work / "audit.json").read_text())["findings"]
    wrong = [row for row in findings if row["kind"] == "wrong label"]
    assert wrong
    assert "fixed" in dataset("fix", work, wrong[0]["id"]).stdout
    assert "fixed" in dataset("fix", work, "--kind", "repeat: exact").stdout
    assert dataset("undo", work).stdout == "step 2 is taken back\n"
    plan = json.loads(dataset("plan", work, "-c", SHEET, "--json").stdout)
    assert plan["distance"] <= plan["before"] and set(plan["repeats"]) <= {
        "base",
        "alignment",
        "additional",
        "older",
        "generated",
    }
    chosen = json.loads(
        dataset("choose", work, "-c", SHEET, "-k", 12, "--at-least", "older=3", "--json").stdout
    )
    assert len(chosen) == 12 and sum(name.startswith("older/") for name in chosen) >= 3
    page = work.parent / "page.html"
    assert dataset("report", work, "-c", SHEET, "-o", page).returncode == 0
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "") and text.count("<details") == 60
    assert wrong[0]["picture"] in text and "tagger" in text
    assert dataset("export", work, "-o", work.parent / "out", "--kohya").returncode == 0
    assert sorted(path.name for path in (work.parent / "out").iterdir())[0] == "1_additional"
    again = dataset("export", work, "-o", work.parent / "out")
    assert again.returncode == 2 and "exists already" in again.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("fix", "ffffffff"), "no finding of the last audit has it"),
        (("fix", "--kind", "beauty"), "the last audit found"),
        (("fix",), "name ids of findings"),
        (("decide", "nobody/1"), "is not in this data set"),
        (("plan", "-c", SHEET, "--target", "style"), "write attribute=value:share"),
        (("plan", "-c", SHEET, "--target", "mood=gay:1"), "unknown here"),
        (("plan", "-c", SHEET, "--target", "style=gay:1"), "there are flat"),
        (("choose", "-c", SHEET, "-k", "61"), "only 60 pictures are kept"),
        (("choose", "-c", SHEET, "-k", "3", "--at-least", "smile"), "write name=number"),
        (("choose", "-c", SHEET, "-k", "3", "--subset", "none"), "there are"),
        (("labels", "--strict", "base"), "write subset=attribute"),
        (("labels", "--strict", "none=pose"), "there are additional"),
        (("labels", "--strict", "base=mood"), "there are expression"),
        (("labels", "--aliases", "gone.csv"), "no such file"),
        (("caption", "-c", SHEET, "--subset", "none"), "there are"),
        (("caption", "-c", SHEET, "--endpoint", "http://127.0.0.1:9/v1"), "model: missing"),
        (("synthesize", "-c", SHEET, "-n", "2", "--lora", "gone.safetensors"), "no such file"),
        (("synthesize", "-c", SHEET, "-n", "2", "--base", "dit=x"), "name --tagger and --identity"),
        (("synthesize", "-c", SHEET, "-n", "2", "--subset", "../x"), "cannot stand in a file name"),
        (("synthesize", "-c", SHEET, "-n", "2", "--size", "100"), "multiple of 16"),
        (("synthesize", "-c", SHEET, "-n", "2", "--model", "brush"), "needs --endpoint"),
        (
            ("synthesize", "-c", SHEET, "-n", "2", "--endpoint", "http://127.0.0.1:9/v1"),
            "model: missing",
        ),
        (
            ("synthesize", "-c", SHEET, "-n", "2", "--endpoint", "http://x/v1", "--steps", "9"),
            "steps: 9",
        ),
        (("synthesize", "-c", SHEET, "-n", "2", "--scenes", "gone"), "holds no scene"),
    ],
)
def test_a_mistake_is_one_line(work: Path, words: tuple[object, ...], what: str) -> None:
    run = dataset(words[0], work, *words[1:])
    lines = [line for line in run.stderr.splitlines() if line.startswith("onmodel: ")]
    assert run.returncode == 2 and len(lines) == 1 and what in lines[0], run.stderr


def test_labels_are_held_to_what_is_set(work: Path) -> None:
    (work.parent / "aliases.csv").write_text("alias,tag\nsneer,smile\n")
    assert dataset("labels", work).stdout == "no list of aliases\n"
    set_ = dataset(
        "labels",
        work,
        "--strict",
        "base=expression,background",
        "--aliases",
        work.parent / "aliases.csv",
    )
    assert set_.returncode == 0 and set_.stdout.startswith(
        "base must have expression, background\n1 aliases\n"
    )
    assert dataset("decide", work, "base/0000", "--tags", "1girl, backgwa, sneer").returncode == 0
    assert dataset("audit", work, "-c", SHEET).returncode == 0
    audit = json.loads((work / "audit.json").read_text())
    own = {
        (row["kind"], row["subject"]) for row in audit["findings"] if row["picture"] == "base/0000"
    }
    assert audit["strict"] == {"base": ["expression", "background"]} and ("alias", "sneer") in own
    assert {name for kind, name in own if kind == "missing label"} >= {"background"}
    assert dataset("undo", work).returncode == 0 and dataset("undo", work).returncode == 0
    assert dataset("labels", work).stdout == "no list of aliases\n"
    assert dataset("audit", work, "-c", SHEET).returncode == 0


def test_sentences_are_written_by_template_and_by_a_model(work: Path) -> None:
    shown = dataset("caption", work, "-c", SHEET, "--again", "--dry-run")
    assert (
        shown.returncode == 0
        and "A girl named backgwa" in shown.stdout
        and "nothing is changed" in shown.stdout
    )
    assert (
        dataset("decide", work, "base/0000", "--sentence", "backgwa, as I see her.").returncode == 0
    )
    said = "backgwa stands somewhere and looks at us."
    with serving(lambda n, question: said) as server:
        words = (
            "caption",
            work,
            "-c",
            SHEET,
            "--again",
            "--subset",
            "base",
            "--endpoint",
            server.url,
            "--model",
            "eyes",
        )
        assert (
            "would be asked about" in dataset(*words, "--dry-run").stdout and not server.questions
        )
        told = json.loads(dataset(*words, "--json").stdout)
        assert told["by"] == "captioner eyes" and set(told["sentences"].values()) == {said}
        assert "base/0000" not in told["sentences"] and len(server.questions) == len(
            told["sentences"]
        )
    assert (
        dataset("undo", work).stdout.endswith("is taken back\n")
        and dataset("undo", work).returncode == 0
    )
    away = dataset(*words[:-4], "--endpoint", "nowhere", "--model", "eyes")
    assert away.returncode == 2 and "endpoint: nowhere" in away.stderr


def test_holes_and_prompts_are_shown_first(work: Path) -> None:
    words = (
        "synthesize",
        work,
        "-c",
        SHEET,
        "-n",
        "4",
        "--target",
        "expression=sad:1,angry:1",
        "--dry-run",
        "--json",
    )
    plan = json.loads(dataset(*words).stdout)
    assert sum(plan["wanted"]["expression"].values()) == 4 and set(
        plan["wanted"]["expression"]
    ) <= {"sad", "angry"}
    assert plan["candidates"] == 16 and all(
        "light blue hair" in prompt for prompt in plan["prompts"]
    )


def test_scenes_are_asked_of_an_endpoint(work: Path, tmp_path: Path) -> None:
    scene = {
        "description": "She waves in a forest, with a smile.",
        "object": [{"name": "tree", "description": "an old oak", "position": "left"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(scene | {"by": "eyes", "prompt": "x"}))
    with serving(lambda n, question: (400, {}, '{"error": {"message": "not today"}}')) as server:
        words = (
            "synthesize",
            work,
            "-c",
            SHEET,
            "-n",
            "2",
            "--tries",
            "1",
            "--scenes",
            tmp_path,
            "--endpoint",
            server.url,
            "--model",
            "brush",
        )
        plan = json.loads(dataset(*words, "--dry-run", "--json").stdout)
        assert len(plan["prompts"]) == 2 and plan["prompts"][0].endswith("tree (left): an old oak.")
        assert "light blue hair" in plan["prompts"][0] and not server.questions
        run = dataset(*words)
    assert (
        run.returncode != 0
        and "brush: none of 2 candidates could be made; the first: " in run.stderr
    )
    assert "not today" in run.stderr and len(server.questions) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--target", "style"),
        ("plan", "--target", "mood=gay:1"),
        ("plan", "--target", "style=gay:1"),
        ("plan", "--target", "style=comic:nan"),
        ("plan", "--tagger", "gone"),
        ("choose", "-k", "61"),
        ("choose", "-k", "3", "--at-least", "smile"),
        ("choose", "-k", "3", "--at-least", "smiel=2"),
        ("choose", "-k", "3", "--at-most", "smile=x"),
        ("choose", "-k", "3", "--subset", "none"),
        ("choose", "-k", "3", "--spread", "nan"),
        ("synthesize", "-n", "2", "--target", "style"),
        ("synthesize", "-n", "2", "--target", "style=gay:1"),
        ("synthesize", "-n", "2", "--scenes", "gone"),
        ("synthesize", "-n", "2", "--lora", "gone.safetensors"),
        ("synthesize", "-n", "2", "--agreement", "2"),
        ("synthesize", "-n", "2", "--base", "gone/folder/x", "--tagger", "a", "--identity", "b"),
    ],
    ids=" ".join,
)
def test_a_mistyped_option_is_found_before_an_observer_is_loaded(
    work: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sabotage(*_: object, **__: object) -> None:
        pytest.fail("an observer or a picture was loaded")

    for place in ("actions", "filling"):
        monkeypatch.setattr(f"onmodel.curate.{place}.load_observers", sabotage)
        monkeypatch.setattr(f"onmodel.curate.{place}.run_audit", sabotage)
        monkeypatch.setattr(f"onmodel.curate.{place}.load_reader", sabotage)
    arguments = ["dataset", words[0], str(work), "-c", str(SHEET), *words[1:]]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError), result.exception


def test_right_options_reach_the_observers(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would pass for nothing."""

    class Reached(Exception):
        pass

    def reached(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr("onmodel.curate.actions.load_observers", reached)
    words = ["dataset", "choose", str(work), "-c", str(SHEET), "-k", "3", "--at-least", "smile=2"]
    assert isinstance(CliRunner().invoke(app, words).exception, Reached)


def test_a_query_knows_the_masks_beside_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "momo"
    (folder / "masks").mkdir(parents=True)
    write_pictures(folder, 4)
    for name in ("0", "1", "2"):
        Image.new("L", (64, 64), 255).save(folder / "masks" / f"{name}.png")
    work = tmp_path / "work"
    gather([folder], work, "unknown", "unknown", Events())
    removed = Decision(0, "mask", "person", "momo/2", mask=NONE)
    open_workshop(work).decide([removed])
    run = CliRunner()
    listed = run.invoke(app, ["dataset", "list", str(work), "is:Masked", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == ["momo/0", "momo/1"]
    words = ["dataset", "tags", str(work), "--add", "nomask", "--", "-is:masked"]
    assert run.invoke(app, words).stdout.startswith("momo/2: ")
    pieces = open_workshop(work).pieces
    assert [name for name in pieces if "nomask" in pieces[name].words] == ["momo/2", "momo/3"]
