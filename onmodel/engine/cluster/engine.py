"""`onmodel run RECIPE --engine ray`: the connection to a cluster, and the run on its workers."""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from onmodel.engine.cluster.dispatch import Dispatcher
from onmodel.engine.cluster.planner import JobPlanner
from onmodel.engine.memory import Machine, forecast
from onmodel.engine.plan import Step, base_of
from onmodel.engine.project import Project
from onmodel.engine.running import Result, Work, run_steps, use_threads, wanted_steps
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.registry import parse_base
from onmodel.recipe import Recipe
from onmodel.text import one_line, shown, without_secrets

PATIENCE = 10.0  # seconds that a machine may take to answer


def check_ray() -> None:
    """Raise InputError when Ray is not installed."""
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise InputError("--engine", "ray", "is not installed; pip install 'onmodel[cluster]'")


def check_base(recipe: Recipe) -> None:
    """Raise InputError for a base that is not sent to other machines."""
    if (place := parse_base(recipe.base).comfyui) is not None:
        remedy = "is not sent to other machines; name its single files, or a diffusers folder"
        raise InputError("base.comfyui", place, remedy)


def run(
    recipe: Recipe,
    project: Project,
    events: Events,
    until: str | None = None,
    tracker: str | None = None,
    address: str | None = None,
    per_card: int = 1,
) -> Result:
    """Run the stages on the workers of a Ray cluster; without an address, on all cards or
    processors of this machine. Skips what the ledger has; with `until`, only that stage and what it
    needs. `per_card` workers share a card.

    A lost worker's jobs are done again. Raises InputError when the recipe is wrong, when there is
    no cluster at the address, or when its machines have other versions; after all cells that can be
    made, the first error of a cell.
    """
    check_ray()
    check_base(recipe)
    steps = wanted_steps(recipe, until)
    family, base_sha256 = base_of(recipe, events)
    use_threads(recipe.threads)  # a picture's key names them
    work = Work(recipe, project, events, family, base_sha256, tracker)
    with connected(address):
        from onmodel.engine.cluster.fleet import RayFleet

        cards = parse_base(recipe.base).device != "cpu"
        fleet = RayFleet(
            recipe.threads, per_card, cards, partial(_check_share, work, steps, per_card)
        )
        dispatcher = Dispatcher(work, fleet, JobPlanner(work))
        try:
            return run_steps(steps, work, dispatcher)
        except BaseException as error:
            dispatcher.stop(error)
            raise
        finally:
            fleet.close()


def _check_share(work: Work, steps: Sequence[Step], per_card: int, share: int) -> None:
    """Raise InputError when a stage is forecast to take more than a worker's share of a card, in
    bytes."""
    if per_card == 1:
        return  # the stage itself says what to do
    import torch

    found = forecast(work.recipe, steps, work.events, Machine("cuda", torch.bfloat16, 0, share))
    for stage in found.memory.values():
        if remedy := found.remedy(stage):
            takes = f"{stage.peak.bytes / 2**30:.1f} GiB, its share of a card {share / 2**30:.1f}"
            remedy = f"{stage.stage} takes {takes}; use a smaller number, or {remedy}"
            raise InputError("--per-card", per_card, remedy)


def _check_listening(address: str) -> None:
    """Raise InputError where nothing answers at host:port: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        remedy = f"nothing answers there ({error}); start the cluster with `ray start --head`"
        raise InputError("--address", address, remedy) from error


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster at an address; a cluster of this machine alone without one; the
    connection there is already, where there is one. Only those that have its token can connect to a
    cluster, unless RAY_AUTH_MODE says otherwise. Raises InputError without a cluster there."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield
        return
    if address and ":" in address:
        _check_listening(address)
    alone: dict[str, Any] = {} if address else {"include_dashboard": False}
    if (
        not address and sys.platform == "linux"
    ):  # elsewhere Ray listens on the machine itself by default
        alone["_node_ip_address"] = "127.0.0.2"
    try:
        address = address or "local"
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = shown(one_line(without_secrets(str(error))), 300)
        remedy = (
            f"no connection ({said}); start it with `ray start --head`, and give this machine its"
            " token in ~/.ray/auth_token"
        )
        raise InputError("--address", address, remedy) from error
    try:
        yield
    finally:
        ray.shutdown()
