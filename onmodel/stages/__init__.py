"""The stages, one file per verb; read in order they are the product.

Each file has a `Settings` (its table in the recipe), `estimate(settings, before) -> Plan` (what it
will cost, from what the stages before it will make) and `run(inputs, settings, context) ->
Artifact`. They are imported when first needed, because most of them load torch.
"""

import importlib
from types import ModuleType

VERBS = {
    "curate": "onmodel.stages.curate",
    "describe": "onmodel.stages.describe",
    "import": "onmodel.stages.import_lora",
    "train": "onmodel.stages.train",
    "sample": "onmodel.stages.sample",
    "evaluate": "onmodel.stages.evaluate",
    "select": "onmodel.stages.select",
    "tune": "onmodel.stages.tune",
    "merge": "onmodel.stages.merge",
    "search": "onmodel.stages.search",
    "release": "onmodel.stages.release",
}


def stage_module(verb: str) -> ModuleType:
    """The file of a verb, imported when first needed."""
    return importlib.import_module(VERBS[verb])
