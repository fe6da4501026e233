"""What a result was made by: the code's version and the environment, as nodes of its history.

No clock, no path and no name of the machine; the ledger keeps the platform's own description beside
it.
"""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from onmodel.ledger import versions
from onmodel.ledger.lineage import Lineage, add
from onmodel.version import __version__

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "pytorch-optimizer",
    "safetensors",
    "numpy",
)


def code(verb: str) -> Lineage:
    """The code of a verb: two copies with the same number give the same bytes from the same
    recipe."""
    return add(
        [], "code", name="onmodel", version=__version__, verb=verb, code=versions.VERBS[verb]
    )


@cache
def environment() -> Lineage:
    """Interpreter, kind of machine and the libraries that compute."""
    return add(
        [],
        "environment",
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        packages={name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
