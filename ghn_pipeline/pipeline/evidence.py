"""Evidence: the results of a scale without weights, kept in the repository.

`evidence/SCALE` has the layout of `results/SCALE`, and the settings. Tables, figures and the page
of claims are made from it again without training.
"""

import contextlib
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml

from ghn_pipeline.pipeline import findings, record
from ghn_pipeline.pipeline.stage import Job, Stage, needed
from ghn_pipeline.report.paper import claims_page
from ghn_pipeline.report.paper.claims import Finding, claims
from ghn_pipeline.settings import plain_yaml
from ghn_pipeline.settings.config import Config, load
from ghn_pipeline.system.compute import cores
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import write_atomically

FOLDER = Path("evidence")
SETTINGS = "settings.yaml"
REMARKS = "remarks.yaml"
#: Weights and data, which evidence does without.
LEFT_OUT = (".pt", ".bin", ".onnx", ".provenance.json", "mlflow.json")
#: Larger files are compressed: the architectures of searches.
LARGEST = 100_000


def keep(config: Config) -> Path:
    """Copy the finished results of a scale into `evidence/SCALE`, which is replaced.

    Raises:
        UserError: nothing has finished, or a result is damaged or stale.
    """
    files = [SETTINGS, *_finished(config)]
    if len(files) == 1:
        raise UserError(f"results/{config.scale} holds no finished stage. Run the preset first.")
    target = FOLDER / config.scale
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name in files[1:]:
        _pack(Path("results", config.scale, name), fresh / name)
    plain = config.model_dump(mode="json")
    write_atomically(fresh / SETTINGS, yaml.safe_dump(plain, sort_keys=False))
    if target.exists():
        for kept in target.glob(REMARKS):
            shutil.copy(kept, fresh)
        shutil.rmtree(target)
    os.replace(fresh, target)
    return target


def _finished(config: Config) -> list[str]:
    """Return the files of finished stages that evidence holds, below the folder of the scale."""
    root, found = Path("results", config.scale), []
    for one in needed(config.space.chapters):
        for name in one.names(config):
            folder = root if one.is_table else root / name
            there = [folder / file for file in _kept(one)]
            if one.kind == "data" or not all(file.exists() for file in there):
                continue
            if not one.is_table:
                record.read(config, name)  # damaged or stale results are no evidence
            found += [str(file.relative_to(root)) for file in there]
    return found


def _pack(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if len(content) > LARGEST and target.suffix == ".json":
        # without a time, so that equal files give equal bytes
        content, target = gzip.compress(content, mtime=0), target.with_suffix(".json.gz")
    write_atomically(target, content)


def scales() -> list[str]:
    """Return the scales that evidence is kept of."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{SETTINGS}"))


def remake() -> Sequence[Finding]:
    """Make tables, figures and the page of claims again; return all findings.

    Evidence of older code, whose settings or digests are no longer those of the present code, keeps
    its tables and findings, and the page says so.

    Raises:
        UserError: there is no evidence, or a file of it is damaged.
    """
    there = scales()
    if not there:
        raise UserError(f"there is no {FOLDER}/SCALE. `ghn keep` makes it from results.")
    with ProcessPoolExecutor(cores()) as pool:
        older = {
            scale: said for scale, said in zip(there, pool.map(_remake, there), strict=True) if said
        }
    found = [one for scale in there for one in findings.read(FOLDER / scale)]
    remarks: dict[int, str] = {}
    for scale in there:
        for number, text in _remarks(scale).items():
            remarks[number] = " ".join(filter(None, [remarks.get(number), f"{scale}: {text}"]))
    claims_page.write(found, FOLDER / "claims", older, dict(sorted(remarks.items())))
    return found


def _remarks(scale: str) -> dict[int, str]:
    path = FOLDER / scale / REMARKS
    said = plain_yaml.read(path) if path.exists() else {}
    if not isinstance(said, dict) or not set(said) <= set(claims()):
        raise UserError(f"{path} must be a mapping from the numbers of claims to remarks on them.")
    return said


def _remake(scale: str) -> str:
    """Make the tables and figures of a scale again, or return why that cannot be."""
    folder = (FOLDER / scale).absolute()
    try:
        config = load([folder / SETTINGS])
    except UserError:
        return "older code, other settings"
    tables = [one for one in needed(config.space.chapters) if one.is_table]
    with tempfile.TemporaryDirectory() as name:
        results = Path(name, "results", scale)
        _unpack(folder, results)
        with contextlib.chdir(name), contextlib.redirect_stdout(io.StringIO()):
            if _is_older(config):
                return "older code, tables as they were"
            for one in tables:
                # one that exports weights cannot be made without them
                exports = any(file.endswith(".pt") for file in one.files)
                if not exports and all((folder / file).exists() for file in _kept(one)):
                    one.work(Job(config, one.name, []))
        for one in tables:
            for file in _kept(one):
                if (results / file).exists() and (folder / file).exists():
                    shutil.copy(results / file, folder / file)
    return ""


def _kept(one: Stage) -> list[str]:
    return [file for file in one.files if not file.endswith(LEFT_OUT)]


def _unpack(folder: Path, target: Path) -> None:
    for path in folder.rglob("*"):
        place = target / path.relative_to(folder)
        if path.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gz":
            try:
                content = gzip.decompress(path.read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{path} is damaged ({error}). Get it again from git.") from error
            place.with_suffix("").write_bytes(content)
        else:
            shutil.copy(path, place)


def _is_older(config: Config) -> bool:
    """Return whether a record in `results` was made with other settings or by another method."""
    for one in needed(config.space.chapters):
        for name in one.names(config):
            if not one.is_table and Path("results", config.scale, name, "run.json").exists():
                try:
                    record.read(config, name)
                except UserError as error:
                    if "stale" not in str(error):
                        raise
                    return True
    return False
