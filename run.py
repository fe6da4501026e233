"""Make the virtual environment, install the locked dependencies, run a task. Standard library only.

python run.py studio           the studio, in the browser
python run.py demo             a character's whole life on the toon world, into demo/
python run.py test             the tests
python run.py check            format, lint, types
python run.py bench-merge      merging at Anima's size against peers and the floor
python run.py bench-search     regret of searches for merge weights
python run.py bench-alpha      what rewriting alpha does to further training
python run.py bench-train      CPU time and memory of a training step, against a plain loop
python run.py bench-real       every stage at Anima's true size: time and memory, beside the plan
python run.py bench-evaluate   pictures per CPU second, against AnimaModularPipeline and the limit
python run.py bench-curate     20,000 pictures read, hashed, tagged and compared
python run.py bench-audit      a raw folder with planted faults: which does the audit find?
python run.py bench-faults     faults planted in training sets: does the verdict call each?
python run.py bench-mended     does a LoRA on the fixed data set beat one on the data as found?
python run.py bench-selection  is what tune chooses among the truly best, and for how many pictures?
python run.py bench-judge      do a blind judge's intervals cover the truth?
python run.py bench-statistics do 95 % intervals cover 95 %, and do twins stay alike?
python run.py bench-studio     20,000 pictures in the studio, beside Gradio
python run.py bench-verdict    are planted faults called, and equal models not?
python run.py bench-compat     is the change of other tools' LoRA files read exactly?
python run.py bench-cluster    the engine ray: kills, the cost of a cell, busy workers, a simulation
python run.py bench-sdxl       SDXL: does its toon base obey, and what gives the predecessor
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCKS = ("requirements.lock", "pyproject.toml", "onmodel/studio/npm/package-lock.json")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

TASKS = {
    "demo": [["-m", "onmodel.cli.main", "run", "recipes/demo.toml", "--project", "demo"]],
    "studio": [["-m", "onmodel.cli.main", "studio"]],
    "test": [["-m", "pytest", "-n", "2", "--dist", "loadfile"]],  # a file's tests share fixtures
    "bench-merge": [["benchmarks/merge.py"]],
    "bench-search": [["benchmarks/search_regret.py"]],
    "bench-alpha": [["benchmarks/alpha_trap.py"]],
    "bench-train": [["benchmarks/train.py"]],
    "bench-real": [["benchmarks/real_size.py"]],
    "bench-evaluate": [["benchmarks/evaluate.py"]],
    "bench-curate": [["benchmarks/curate.py"]],
    "bench-audit": [["benchmarks/audit_faults.py"]],
    "bench-faults": [["benchmarks/trained_faults.py"]],
    "bench-mended": [["benchmarks/mended.py"]],
    "bench-selection": [["benchmarks/selection_truth.py"]],
    "bench-judge": [["benchmarks/simulated_judges.py"]],
    "bench-statistics": [["benchmarks/simulated_evaluations.py"]],
    "bench-studio": [["benchmarks/studio.py"]],
    "bench-verdict": [["benchmarks/verdict_power.py"]],
    "bench-compat": [["benchmarks/compat.py"]],
    "bench-cluster": [["benchmarks/cluster.py"]],
    "bench-sdxl": [["benchmarks/sdxl.py"]],
    "check": [
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "ruff", "check", "."],
        ["-m", "mypy"],
    ],
}


def install() -> None:
    """Bring `.venv` to what requirements.lock says; does nothing when it is there already."""
    wanted = hashlib.sha256()
    for name in LOCKS:
        wanted.update((ROOT / name).read_bytes())
    stamp = VENV / "installed.sha256"
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        return
    print("Installing into .venv (once; torch is large)", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", "requirements.lock"], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", "--editable", "."], cwd=ROOT, check=True)
    if shutil.which("npm"):  # else the studio says what is missing
        subprocess.run([str(PYTHON), "tools/studio_assets.py", "--tests"], cwd=ROOT, check=True)
    stamp.write_text(wanted.hexdigest())


def main() -> int:
    if sys.version_info < (3, 11):
        print(
            f"python: {sys.version.split()[0]} — onmodel needs Python 3.11 or newer",
            file=sys.stderr,
        )
        return 2
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        install()
    except (subprocess.CalledProcessError, OSError) as error:
        print(
            f"installation: {error} — check the network and the disk, then run the same command"
            " again",
            file=sys.stderr,
        )
        return 1
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    for task in TASKS[sys.argv[1]]:
        code = subprocess.run(
            [str(PYTHON), *task, *sys.argv[2:]], cwd=ROOT, env=environment
        ).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
