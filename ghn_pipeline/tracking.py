"""MLflow: a run for every training and scoring, fed from the files that are the truth.

A stage writes its files first and is sent when it is done. A tracking server that does not answer
costs a warning, never a result.
"""

import csv
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ghn_pipeline.files import read_json, write_atomically

DEFAULT_STORE = "sqlite:///mlflow.db"
EXPERIMENT = "ghn-pipeline"
#: makes the UI open on the runs, not on its pages for language models
KIND = {"mlflow.experimentKind": "custom_model_development"}


def send(folder: Path) -> str | None:
    """Send the stage whose files are in `folder` to MLflow; return the run's id.

    The store is MLFLOW_TRACKING_URI, or mlflow.db in the working directory.

    Returns:
        The id, or None where the server did not answer (a warning says so).
    """
    record = read_json(folder / "run.json", "ghn")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        run = _send(folder, record)
    # whatever a tracking client raises must not cost a result that is already on disk
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(
            f"warning: {folder} was not sent to MLflow ({reason}). The results are whole; "
            f"send it later with `ghn track`.",
            file=sys.stderr,
        )
        return None
    sent = {"run": run, "finished": record["finished"]}
    write_atomically(folder / "mlflow.json", json.dumps(sent) + "\n")
    return run


def is_sent(folder: Path) -> bool:
    """Whether the stage whose files are in `folder` is in MLflow as it is now."""
    if not (folder / "mlflow.json").exists():
        return False
    sent, record = (read_json(folder / name, "ghn") for name in ("mlflow.json", "run.json"))
    return bool(sent["finished"] == record["finished"])


def _send(folder: Path, record: Mapping[str, Any]) -> str:
    import mlflow
    from mlflow.entities import Metric, Param, RunStatus, RunTag
    from mlflow.tracking import MlflowClient

    store = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_STORE)
    mlflow.set_tracking_uri(store)
    with _one_at_a_time(store):
        client = MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(EXPERIMENT, tags=KIND)
        )
        end = int(1000 * datetime.fromisoformat(record["finished"]).timestamp())
        run = client.create_run(
            number,
            start_time=end - int(1000 * record["accelerator_seconds"]),
            run_name=f"{record['scale']}/{record['stage']}",
        )
        metrics = [Metric(k, v, end, 0) for k, v in _numbers(record["result"])]
        metrics.append(Metric("accelerator_seconds", record["accelerator_seconds"], end, 0))
        metrics += [Metric(*point, end, step) for point, step in _curve(folder / "curve.csv")]
        params = [Param(k, str(v)[:500]) for k, v in _flat(record["settings"])]
        tags = [RunTag(k, str(record[k])) for k in ("stage", "scale", "digest", "commit", "dirty")]
        tags += [RunTag("folder", str(folder)), RunTag("slurm_job", str(record["slurm_job"]))]
        tags += [RunTag("mlflow.source.name", "ghn")]
        for start in range(0, max(len(metrics), len(params)), 100):
            part = slice(start, start + 100)
            client.log_batch(
                run.info.run_id,
                metrics[10 * start : 10 * (start + 100)],
                params[part],
                tags if start == 0 else [],
            )
        client.log_artifacts(run.info.run_id, str(folder))
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FINISHED), end)
    return str(run.info.run_id)


@contextmanager
def _one_at_a_time(store: str) -> Iterator[None]:
    """Let one process of this machine at a time into an SQLite store.

    Of several that open a new one at once, all but one fail.
    """
    if not store.startswith("sqlite:///"):
        yield
        return
    with open(store.removeprefix("sqlite:///") + ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in _flat(result):
        if isinstance(value, (int, float)):
            yield key, float(value)


def _curve(path: Path) -> Iterator[tuple[tuple[str, float], int]]:
    """Yield ((name, value), step) for each cell of a curve; a stage without one has no points."""
    if not path.exists():
        return
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            yield from (((name, float(value)), step) for name, value in row.items())
