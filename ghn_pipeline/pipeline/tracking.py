"""MLflow: a run for every training and scoring, copied from the files of the results.

A stage writes its files first and is sent when it is done; the curve of a training is sent as its
checkpoints are written. A tracking server that does not answer costs a warning, never a result.

Each name belongs to one run. A run is named SCALE/STAGE, like its folder in `results`. If a folder
gets another run, because results and checkpoints were deleted or the settings were changed, the
newer run takes the name. An older run with the same settings is deleted (MLflow can restore it); an
older run with other settings is renamed to SCALE/STAGE@DIGEST, with the digest of its settings.
Runs of other folders, such as a colleague's on the same server, are left alone.
"""

import csv
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ghn_pipeline.pipeline import store
from ghn_pipeline.pipeline.record import load as read_record
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import digest, write_atomically

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from ghn_pipeline.training.fit import Log

EXPERIMENT = "ghn-pipeline"
#: tags that make the UI open on the runs, not on its pages for language models
KIND = {"mlflow.experimentKind": "custom_model_development"}
#: the tag with the key of a stage's work
RUN = "ghn.run"
#: the tag with a digest of the results' folder
PLACE = "ghn.place"
#: the file beside run.json that records what was sent to which store
MARKER = "mlflow.json"

#: When jobs send their results, by the environment: each its own if this is not set, all of them by
#: `ghn track` if it is "later". In a workflow it is "workflow": jobs that take longer than `LONG`
#: and jobs of Slurm send their own, and the workflow sends the others at its end.
WHEN = "GHN_TRACKING"
#: seconds; to load MLflow takes three, in which a short job would do its work twice
LONG = 20.0
#: when this process began its work
BEGUN = time.monotonic()

Record = Mapping[str, Any]
T = TypeVar("T")
#: step, time in milliseconds, numbers
Point = tuple[int, int, Mapping[str, float]]


def when() -> str:
    """Return when results are sent.

    Raises:
        UserError: the environment names another time.
    """
    chosen = os.environ.get(WHEN, "")
    if chosen not in ("", "later", "workflow"):
        raise UserError(f"{WHEN} is {chosen!r}: set it to later, or do not set it.")
    return chosen


def _due() -> bool:
    """Return whether this job sends its results by now."""
    alone = "SLURM_JOB_ID" in os.environ  # Slurm may start it again without the workflow
    return not when() or (when() == "workflow" and (alone or time.monotonic() - BEGUN >= LONG))


def prepare() -> None:
    """Make the store and its experiment before jobs share them; warn if it does not answer."""
    if when() == "later":
        return
    try:
        store.in_time(_experiment)
    except Exception as error:
        _warn("MLflow does not answer", error, "Results are written to files all the same.")


def check() -> None:
    """Open the store.

    Raises:
        UserError: the store cannot be opened.
    """
    _asked(lambda client: client.get_experiment_by_name(EXPERIMENT))


def _asked(question: Callable[["MlflowClient"], T]) -> T:
    try:
        return store.in_time(question)
    except Exception as error:
        # the cause is hidden, because it may show the secrets of the address
        raise UserError(f"the store of the runs cannot be used: {store.reason(error)}") from None


@contextmanager
def follow(record: Record, folder: Path) -> Iterator[Callable[["Log"], None]]:
    """Show a running training in MLflow; the training never waits for it.

    The run begins, or resumes, with the first log. An exception marks it as killed; otherwise
    `send` must finish it.

    Args:
        record: the provenance of the stage.
        folder: the folder of its results.

    Yields:
        A function to call with the log after each checkpoint.
    """
    if when() == "later":
        yield lambda log: None
        return
    follower = _Follower(record, folder)
    follower.start()
    try:
        yield follower.take
    except BaseException:
        follower.become("KILLED")
        follower.join(store.PATIENCE)
        raise
    follower.become("FINISHED")


def done(folder: Path) -> None:
    """Send the stage whose files are in `folder`, if jobs send their own results."""
    if _due():
        send(folder)


def send_rest(results: Path) -> None:
    """Send the results that jobs left to the workflow; warn if the store does not answer."""
    if when() != "workflow":
        return
    try:
        left = unsent(folders_of(results))
    except UserError as error:
        print(f"warning: {error}; `ghn track` sends the results later", file=sys.stderr)
        return
    for folder in left:
        send(folder)


def folders_of(results: Path) -> list[Path]:
    """Return the folders of all stages with a record."""
    return [record.parent for record in sorted(results.rglob("run.json"))]


def send(folder: Path) -> str | None:
    """Send the stage whose files are in `folder` to MLflow; return the run's id.

    The store is MLFLOW_TRACKING_URI, or mlflow.db in the working directory. A run of the same work
    that is already there is completed, and nothing is sent twice.

    Returns:
        The id, or None with a warning if the record is damaged or the store cannot be used.
    """
    try:
        record = read_record(folder / "run.json")
    except UserError as error:
        print(f"warning: {folder} was not sent to MLflow: {error}", file=sys.stderr)
        return None
    try:
        run = store.in_time(lambda client: _send(client, folder, record))
        there = store.public(store.address())
        sent = {"run": run, "store": there, "finished": record["finished"]}
        write_atomically(folder / MARKER, json.dumps(sent) + "\n")
        return run
    # an error of the tracking client must not cost a result that is already on disk
    except Exception as error:
        later = "The results are whole; send it later with `ghn track`."
        _warn(f"{folder} was not sent to MLflow", error, later)
        return None


def unsent(folders: Sequence[Path]) -> list[Path]:
    """Return the folders whose present results are not in the store in force.

    Raises:
        UserError: the store cannot be used.
    """
    there = _asked(_finished_runs) if folders else frozenset()
    return [folder for folder in folders if _sent_as(folder) not in there]


def _finished_runs(client: "MlflowClient") -> frozenset[str]:
    experiment, token, found = _experiment(client), None, set[str]()
    while True:
        page = client.search_runs([experiment], "status = 'FINISHED'", page_token=token)
        found |= {run.info.run_id for run in page}
        if not (token := page.token):
            return frozenset(found)


def _sent_as(folder: Path) -> str | None:
    """Return the id of the run as which the present results in `folder` were sent."""
    try:
        sent, record = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (MARKER, "run.json")
        )
        as_now = sent["finished"] == record["finished"]
        return str(sent["run"]) if as_now else None
    except (OSError, ValueError, TypeError, KeyError):  # the marker is missing or damaged
        return None


def _warn(what: str, error: Exception, then: str) -> None:
    print(f"warning: {what} ({store.reason(error)}). {then}", file=sys.stderr)


# ---- runs --------------------------------------------------------------------------------------


def _experiment(client: "MlflowClient") -> str:
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(EXPERIMENT):
        return found.experiment_id
    try:
        return client.create_experiment(EXPERIMENT, tags=KIND)
    except MlflowException:
        # another process may have created it on a server at the same time
        if found := client.get_experiment_by_name(EXPERIMENT):
            return found.experiment_id
        raise


def _the_run(client: "MlflowClient", folder: Path, record: Record, start: int) -> "Run":
    """Return the one run of this work, made if there is none; no other run keeps its name."""
    experiment, key, name = (
        _experiment(client),
        record["run"],
        f"{record['scale']}/{record['stage']}",
    )

    def found() -> "Sequence[Run]":
        runs = client.search_runs([experiment], f"tags.`{RUN}` = '{key}'")
        # all processes must choose the same run, even of several from the same millisecond
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    if not (runs := found()):
        tags = {RUN: key, PLACE: _place(folder), "digest": record["digest"]}
        client.create_run(experiment, start, tags, name)
        runs = found()
    run, *doubles = runs
    # a slow server may have made a second run from a repeated request
    for double in doubles:
        client.delete_run(double.info.run_id)
    if run.info.run_name == f"{name}@{record['digest']}":  # the settings were changed back
        client.update_run(run.info.run_id, name=name)
    for used in (name, f"{name}@{record['digest']}"):
        for other in client.search_runs([experiment], f"attributes.run_name = '{used}'"):
            # runs of older versions have no such tag
            here = other.data.tags.get(PLACE, _place(folder)) == _place(folder)
            if here and other.data.tags.get(RUN) != key:
                _make_way(client, other, name, record)
    return run


def _make_way(client: "MlflowClient", older: "Run", name: str, record: Record) -> None:
    made_from = older.data.tags.get("digest")
    if made_from == record["digest"]:
        client.delete_run(older.info.run_id)
    else:
        client.update_run(older.info.run_id, name=f"{name}@{made_from}")


def _place(folder: Path) -> str:
    return digest(str(folder.resolve()))


def _begin(client: "MlflowClient", folder: Path, record: Record, start: int) -> "Run":
    """Return the run of this work, with its settings and provenance."""
    from mlflow.entities import Param, RunTag

    run = _the_run(client, folder, record, start)
    tags = {key: str(record[key]) for key in ("stage", "scale", "digest", "commit", "dirty")}
    tags |= {"folder": str(folder), PLACE: _place(folder), "mlflow.source.name": "ghn"}
    jobs = [*run.data.tags.get("slurm_job", "").split(","), record["slurm_job"]]
    if jobs := list(dict.fromkeys(filter(None, jobs))):
        tags["slurm_job"] = ",".join(jobs)
    client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in tags.items()])
    params = [Param(key, str(value)[:500]) for key, value in _flat(record["settings"])]
    for i in range(0, len(params), 100):
        client.log_batch(run.info.run_id, params=params[i : i + 100])
    return run


def _last_step(client: "MlflowClient", run: str) -> int:
    return max((point.step for point in client.get_metric_history(run, "loss")), default=-1)


def _log(client: "MlflowClient", run: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    # each step is sent as a whole, so that a loss proves that all of its step is there
    for i in range(0, len(points), 100):
        part = points[i : i + 100]
        metrics = [Metric(k, v, at, step) for step, at, each in part for k, v in each.items()]
        client.log_batch(run, metrics)


def _send(client: "MlflowClient", folder: Path, record: Record) -> str:
    end = int(1000 * datetime.fromisoformat(record["finished"]).timestamp())
    seconds = record["accelerator_seconds"]
    run = _begin(client, folder, record, end - int(1000 * seconds))
    number, there = run.info.run_id, run.data.metrics
    last = _last_step(client, number)
    _log(client, number, [p for p in _curve(folder / "curve.csv", end) if p[0] > last])
    final = {**dict(_numbers(record["result"])), "accelerator_seconds": seconds}
    _log(client, number, [(0, end, {k: v}) for k, v in final.items() if there.get(k) != v])
    for path in folder.iterdir():
        # a kill may have left a hidden file half written
        if path.name != MARKER and not path.name.startswith("."):
            client.log_artifact(number, str(path))
    client.set_terminated(number, "FINISHED", end)
    return str(number)


# ---- a training that goes on -------------------------------------------------------------------


class _Follower(threading.Thread):
    """A thread that sends the curve of a running training."""

    def __init__(self, record: Record, folder: Path) -> None:
        super().__init__(daemon=True)  # a server that hangs must not keep the process
        self.record, self.folder = record, folder
        self.status = "RUNNING"
        self.news = threading.Event()
        self.points: list[Point] = []
        self.begun: int | None = None
        self.run_id: str | None = None
        self.sent = -1
        self.failed = False

    def take(self, log: "Log") -> None:
        """Take the new entries of the log, once this job sends its results."""
        if not _due():
            return
        now = int(1000 * time.time())
        self.begun = self.begun or now - int(1000 * log.seconds)
        for step, loss, rate in log.curve[len(self.points) :]:
            # a step keeps its time, because MLflow drops a repeated entry only if it is identical
            self.points.append((step, now, {"loss": loss, "learning_rate": rate}))
        self.news.set()

    def become(self, status: str) -> None:
        """End the thread, and leave the run in `status`."""
        self.status = status
        self.news.set()

    def run(self) -> None:
        """Send new entries until the training ends."""
        status = "RUNNING"
        while status == "RUNNING":
            self.news.wait()
            self.news.clear()
            status = self.status
            if self.begun and status != "FINISHED":
                self._send_or_warn(status, self.begun)

    def _send_or_warn(self, status: str, begun: int) -> None:
        try:
            with store.connected() as client:
                # the status may have changed while this thread waited for the store
                if self.status != "FINISHED":
                    self._send(client, status, begun)
        except Exception as error:
            self.run_id = None  # look the run up again next time
            if not self.failed:
                later = "The training goes on; missing entries are sent when MLflow answers."
                _warn(f"{self.folder} is not followed by MLflow", error, later)
            self.failed = True
        else:
            if self.failed:
                print(f"{self.folder} is followed by MLflow again", file=sys.stderr)
            self.failed = False

    def _send(self, client: "MlflowClient", status: str, begun: int) -> None:
        if self.run_id is None:
            run = _begin(client, self.folder, self.record, begun)
            if run.info.status != "RUNNING":
                client.update_run(run.info.run_id, "RUNNING")
            self.sent = _last_step(client, run.info.run_id)
            self.run_id = run.info.run_id
        new = [point for point in self.points if point[0] > self.sent]
        _log(client, self.run_id, new)
        self.sent = max((point[0] for point in new), default=self.sent)
        if status == "KILLED":
            client.set_terminated(self.run_id, status)


# ---- records and curves as numbers -------------------------------------------------------------


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


def _curve(path: Path, time: int) -> Iterator[Point]:
    """Yield the points of a curve, all with the same time; a stage without a curve has none."""
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            yield step, time, {name: float(value) for name, value in row.items()}
