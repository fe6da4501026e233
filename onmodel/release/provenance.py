"""The history of a release folder, an artifact of a project, or a LoRA file.

It is read from the file or folder alone; neither ledger nor parent files are needed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.evaluation import Evaluation
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage, check_at, ordered, parse, root
from onmodel.lora import header
from onmodel.reading import read_bytes
from onmodel.release.folder import LINEAGE, Statement
from onmodel.release.tables import EVALUATION
from onmodel.release.verify import LARGEST_EVALUATION, published, verify_weights
from onmodel.weights import PAYLOAD_KEY, payload_sha256, read_metadata


@dataclass(frozen=True)
class Provenance:
    """`files`: file → SHA-256 of what was looked at; `generated`: file → the node that it is;
    `evaluation`: the published numbers, where a release has them."""

    name: str
    lineage: Lineage
    files: Mapping[str, str] = field(default_factory=dict)
    generated: Mapping[str, str] = field(default_factory=dict)
    evaluation: Evaluation | None = None

    @property
    def newest(self) -> str:
        """The id of the node that everything else led to."""
        return root(self.lineage)

    def statement(self) -> Statement:
        """The in-toto Statement about the files. A release's own `lineage.json` has the same
        bytes."""
        return Statement(self.files, self.lineage, self.generated)


def read_provenance(path: Path) -> Provenance:
    """The history that a file or folder carries, every node held against its id.

    Raises InputError when the path is none of these, VerifyError naming the node when the history
    is damaged.
    """
    try:
        if path.is_dir() and (path / LINEAGE).is_file():
            return _folder(path)
        if path.is_file() and path.name == LINEAGE:
            return _folder(path.parent)
        file = path / "adapter_model.safetensors" if path.is_dir() else path
        if file.suffix == ".safetensors" and file.is_file():
            return _weights(file)
    except OSError as error:
        raise InputError(
            "path", path, f"cannot be read ({error.strerror}); check its permissions"
        ) from error
    raise InputError(
        "path", path, f"name a release folder, a folder with {LINEAGE}, or a .safetensors file"
    )


def counts(lineage: Lineage) -> dict[str, int]:
    """How much a history holds. A picture counts once for every data set that it is in."""
    types = Counter(node["type"] for node in lineage.values())
    pictures = sum(
        row["count"]
        for node in lineage.values()
        if node["type"] == "dataset"
        for row in node["subsets"].values()
    )
    others = [node["origin"] for node in lineage.values() if node["type"] == "model"]
    return {
        "nodes": len(lineage),
        "pictures": pictures,
        "data_sets": types["dataset"],
        "trainings": types["run"],
        "merges": types["merge"],
        "evaluations": types["evaluation"],
        "files_of_others": len(others),
        "of_unknown_origin": others.count("unknown"),
    }


def as_dict(provenance: Provenance) -> dict[str, object]:
    """A history as JSON values: what it counts, the files, and every node in order."""
    return {
        "name": provenance.name,
        "newest": provenance.newest,
        "counts": counts(provenance.lineage),
        "files": dict(provenance.files),
        "nodes": {id: provenance.lineage[id] for id in ordered(provenance.lineage)},
    }


def _folder(folder: Path) -> Provenance:
    data = read_bytes(folder / LINEAGE, LINEAGE)
    # An artifact's own lineage.json is the table of nodes; a release's is a statement, in canonical
    # form.
    if not data.startswith(b'{"_type":'):
        lineage = parse(data, LINEAGE)
        return Provenance(str(lineage[root(lineage)].get("name", folder.name)), lineage)
    statement = Statement.from_bytes(data)
    check_at(statement.lineage, LINEAGE)
    numbers = folder / EVALUATION
    evaluation = None
    if numbers.is_file():
        if sha256_file(numbers) != statement.files.get(EVALUATION):
            raise VerifyError(
                EVALUATION, "was changed after the release; see `onmodel release verify`"
            )
        evaluation = published(read_bytes(numbers, EVALUATION, LARGEST_EVALUATION))
    return Provenance(
        folder.resolve().name, statement.lineage, statement.files, statement.generated, evaluation
    )


def _weights(file: Path) -> Provenance:
    metadata, sha256 = read_metadata(file), sha256_file(file)
    if PAYLOAD_KEY in metadata and metadata[PAYLOAD_KEY] != payload_sha256(file):
        raise VerifyError(file.name, "the tensors are not those whose history the header tells")
    if PAYLOAD_KEY in metadata and header.RECIPE_KEY in metadata:
        lineage = verify_weights(file)[1]
    else:
        lineage = header.lineage_of(metadata, sha256)
    return Provenance(file.stem, lineage, {file.name: sha256}, {file.name: root(lineage)})
