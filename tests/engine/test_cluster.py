"""Recipes on a Ray cluster of this machine: the bytes of the local engine, whoever is killed."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onmodel.cli.run import EngineChoice
from onmodel.engine import local
from onmodel.engine.cluster import engine
from onmodel.engine.cluster.dispatch import Dispatcher
from onmodel.engine.plan import base_of
from onmodel.engine.project import Project
from onmodel.engine.running import Work, run_steps, use_threads, wanted_steps
from onmodel.errors import InputError
from onmodel.hashing import sha256_file
from onmodel.recipe import Recipe, load_recipe
from tests.support.cluster_jobs import KillingPlanner
from tests.support.events import Recorded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked and killed")
ROOT = Path(__file__).parents[2]
HEAD = """
[recipe]
name = "little"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1
[defaults.train]
rank = 2
resolution = 96
precision = "fp32"
learning_rate = 2e-3
validation = false
[defaults.sample]
steps = 1
[defaults.evaluate]
steps = 1
seeds = 1
[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 2 }]
[stages.first]
do = "train"
dataset = "data"
epochs = 14
keep_every = 7
"""
DRAWN = """
[stages.drawn]
do = "sample"
model = "first"
count = 3
"""
MEASURED = """
[stages.measured]
do = "evaluate"
models = ["first"]
"""
WRONG = """
[stages.wrong]
do = "sample"
model = "first"
count = 2
prompts = { expression = [] }
"""
SECRET = "a-secret-of-the-head"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node with two processors, on the loopback device."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "ONMODEL_WORKER_FOLDER": str(folder / "worker"),
        "PYTHONPATH": str(ROOT),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 2, "node_ip_address": "127.0.0.2", "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        patched.setenv("HEAD_SECRET", SECRET)  # not in the environment of the workers
        yield cluster.address
        cluster.shutdown()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What the local engine makes."""
    folder = tmp_path_factory.mktemp("local")
    project = Project(folder / "project")
    with project.writing():
        local.run(recipe(folder, DRAWN + MEASURED), project, Recorded())
    return project


def recipe(folder: Path, more: str = "") -> Recipe:
    (folder / "recipe.toml").write_text(HEAD + more)
    return load_recipe(folder / "recipe.toml")


def run(folder: Path, address: str, more: str = "") -> Project:
    project = Project(folder / "project")
    with project.writing():
        engine.run(recipe(folder, more), project, Recorded(), address=address)
    return project


def contents(project: Project) -> tuple[list[str], dict[str, str]]:
    """The objects of a project by hash, and its cached pictures."""
    pictures = {path.name: sha256_file(path) for path in project.pictures.glob("??/*.png")}
    return sorted(project.objects()), pictures


def key_of(project: Project, stage: str) -> str:
    return next(key for key, name in project.ledger.stages().items() if name == stage)


def finished(project: Project) -> Counter[str]:
    return Counter(run.stage for run in project.ledger.runs() if run.state == "done")


def test_workers_make_the_bytes_of_the_local_engine(
    address: str, expected: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    from onmodel.engine.cluster.fleet import RayFleet

    sent: list[bytes] = []
    real = RayFleet.send

    def watched(self: RayFleet, worker: str, job: Any, sources: Any) -> None:
        sent.append(cloudpickle.dumps(job))
        real(self, worker, job, sources)

    monkeypatch.setattr(RayFleet, "send", watched)
    project = run(tmp_path, address, DRAWN + MEASURED)
    assert contents(project) == contents(expected)
    assert len(contents(project)[1]) > 50
    assert len(sent) > 3 + 4  # stages, and blocks of pictures
    words = [str(tmp_path).encode(), SECRET.encode()]
    assert [word for word in words if any(word in job for job in sent)] == []
    assert finished(project) == Counter(["data", "first", "drawn", "measured"])


def test_a_training_whose_worker_is_killed_goes_on_and_is_recorded_once(
    address: str, expected: Project, tmp_path: Path
) -> None:
    from onmodel.engine.cluster.fleet import RayFleet

    project, heard, asked = Project(tmp_path / "project"), Recorded(), recipe(tmp_path)
    use_threads(asked.threads)
    family, base_sha256 = base_of(asked, heard)
    work = Work(asked, project, heard, family, base_sha256)
    planner = KillingPlanner(work, "first", tmp_path / "killed")
    with project.writing(), engine.connected(address):
        fleet = RayFleet(asked.threads, 1, cards=False)
        run_steps(wanted_steps(asked, None), work, Dispatcher(work, fleet, planner))
        fleet.close()
    assert "first: its worker was lost (ActorDiedError); it is done again" in heard.text
    timed = ["seconds" in row for row in project.ledger.steps(key_of(project, "first"))]
    assert timed == [False] * 25 + [True] * 3  # the first 25 steps were those of the killed worker
    assert set(project.objects()) <= set(expected.objects())
    assert finished(project) == Counter(["data", "first"])


def test_a_command_that_is_killed_goes_on(address: str, expected: Project, tmp_path: Path) -> None:
    recipe(tmp_path, DRAWN)
    command = [sys.executable, "-m", "onmodel", "run", str(tmp_path / "recipe.toml")]
    command += ["--project", str(tmp_path / "project"), "--engine", "ray", "--address", address]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ}, **quiet)
    while not list((tmp_path / "project" / "objects").glob("*/*/models.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    project = run(tmp_path, address, DRAWN)
    assert set(contents(project)[0]) <= set(expected.objects())
    assert finished(project) == Counter(["data", "first", "drawn"])


def test_a_mistake_of_the_user_is_one_line_and_not_tried_again(
    address: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"stages\.wrong\.prompts\.expression: \[\] — list"):
        run(tmp_path, address, WRONG + DRAWN)
    project = Project(tmp_path / "project")
    states = Counter((run.stage, run.state) for run in project.ledger.runs())
    assert states["wrong", "failed"] == 1 and sum(states.values()) == 4
    assert states["drawn", "done"] == 1


def test_without_the_token_there_is_no_connection(address: str, tmp_path: Path) -> None:
    recipe(tmp_path)
    command = [sys.executable, "-m", "onmodel", "run", str(tmp_path / "recipe.toml")]
    command += ["--project", str(tmp_path / "project"), "--engine", "ray", "--address", address]
    environment = {**os.environ, "HOME": str(tmp_path)}
    del environment["RAY_AUTH_TOKEN"], environment["RAY_AUTH_MODE"]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no authentication token was found" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize("where", ["127.0.0.1:1", "nowhere.invalid:6379", "127.0.0.1:port"])
def test_an_address_where_nothing_answers_is_refused_at_once(where: str) -> None:
    with (
        pytest.raises(InputError, match=rf"--address: {where} — nothing answers there"),
        engine.connected(where),
    ):
        pytest.fail("connected")


def test_a_base_that_is_not_sent_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = '[recipe]\nbase = { family = "anima", comfyui = "." }'
    (tmp_path / "recipe.toml").write_text(HEAD.replace("[recipe]", base))
    monkeypatch.setattr(engine, "connected", lambda address: pytest.fail("connected"))
    project = Project(tmp_path / "project")
    with pytest.raises(InputError, match=r"base\.comfyui: .* — is not sent to other machines"):
        engine.run(load_recipe(tmp_path / "recipe.toml"), project, Recorded())


def test_an_empty_address_and_one_of_rays_client_are_refused() -> None:
    with pytest.raises(InputError, match=r"--address: '' — is empty"):
        EngineChoice(engine="ray", address="").check()
    with pytest.raises(InputError, match=r"--address: ray://a:10001 — .* give auto or host:port"):
        EngineChoice(engine="ray", address="ray://a:10001").check()


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'onmodel\[cluster\]'"):
        engine.check_ray()
