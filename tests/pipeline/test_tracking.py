"""Runs sent to MLflow: all that is in the files, once, and never at the cost of a result."""

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from stage_results import EXAMPLES, reseal

from ghn_pipeline import cli
from ghn_pipeline.pipeline import record, tracking
from ghn_pipeline.pipeline import store as stores
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import write_atomically
from ghn_pipeline.training.fit import Log

COLUMNS = ("loss", "learning_rate")
CURVE = [(3, 2.25, 0.001), (6, 1.5, 0.0005), (1203, 1.125, 0.00025)]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """An SQLite store with its tables and nothing in them: making them takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "store.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """An empty SQLite store, with its artifacts beside it."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    # mlflow sets these itself: monkeypatch takes them back
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return uri


@pytest.fixture
def stage(configured, store):
    """Write the files of a finished training and return their folder."""

    def make(name="ghn/default", result=None, settings=None):
        config = configured(settings or {})
        changes = {"measured": {10: {"accuracy": 0.25}}} if name == "ghn/default" else {}
        result = result or {**EXAMPLES[name.partition("/")[0]], **changes}
        record.write(config, name, result, seconds=12.5, hardware={"device": "cpu"})
        folder = record.result_folder(config, name)
        rows = "\n".join(",".join(map(str, row)) for row in CURVE)
        write_atomically(folder / "curve.csv", f"step,loss,learning_rate\n{rows}\n")
        write_atomically(folder / "model.pt", b"weights")
        return folder

    return make


@pytest.fixture
def provenance(configured, store):
    return record.provenance(configured(), "ghn/default")


def until(condition):
    """Wait for what happens in another thread or process."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never happened")


def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store)


def runs(store):
    found = client(store)
    experiment = found.get_experiment_by_name("ghn-pipeline")
    return found.search_runs([experiment.experiment_id]) if experiment else []


def points(store, name="loss"):
    """The (step, value) of all runs, each as often as it is there."""
    histories = (client(store).get_metric_history(run.info.run_id, name) for run in runs(store))
    return sorted((point.step, point.value) for history in histories for point in history)


def losses(curve):
    return [(step, loss) for step, loss, _ in curve]


def status(store):
    (run,) = runs(store)
    return run.info.status


def test_a_finished_stage_is_a_whole_run(stage, store, configured):
    folder = stage()
    run_id = tracking.send(folder)
    (run,) = runs(store)
    assert run.info.run_id == run_id
    assert run.info.run_name == "smoke/ghn/default"
    assert run.info.status == "FINISHED"

    config = configured()
    params = run.data.params
    assert params["ghn.passes"] == str(config.ghn.passes)
    assert params["ghn.learning_rate"] == "0.001"
    assert params["images.train"] == "640"
    assert params["seeds.data_order"] == "3"
    assert params["space.operations"] == str(config.space.operations)

    said = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    tags = run.data.tags
    for tag in ("stage", "scale", "digest", "commit", "dirty"):
        assert tags[tag] == str(said[tag])
    assert tags["folder"] == str(folder)

    metrics = run.data.metrics
    assert metrics["accelerator_seconds"] == 12.5
    assert metrics["measured.10.accuracy"] == 0.25
    assert metrics["steps"] == 30
    history = client(store).get_metric_history(run_id, "learning_rate")
    assert [(m.step, m.value) for m in history] == [(step, rate) for step, _, rate in CURVE]
    # the result's loss is one more point beside those of the curve
    losses = client(store).get_metric_history(run_id, "loss")
    assert {(step, loss) for step, loss, _ in CURVE} <= {(m.step, m.value) for m in losses}

    artifacts = {a.path for a in client(store).list_artifacts(run_id)}
    assert artifacts == {"run.json", "curve.csv", "model.pt"}


def test_the_curve_of_the_loss_has_only_the_points_of_the_file(stage, store):
    run_id = tracking.send(stage())
    losses = client(store).get_metric_history(run_id, "loss")
    assert sorted((m.step, m.value) for m in losses) == [(s, loss) for s, loss, _ in CURVE]


def test_a_long_curve_is_sent_whole(stage, store):
    folder = stage()
    rows = "\n".join(f"{k},{1 / k},0.001" for k in range(1, 1501))
    (folder / "curve.csv").write_text(f"step,loss,learning_rate\n{rows}\n", encoding="utf-8")
    run_id = tracking.send(folder)
    history = client(store).get_metric_history(run_id, "learning_rate")
    assert [m.step for m in history] == list(range(1, 1501))


def test_a_stage_without_a_curve_is_sent(stage, store):
    values = {"mean": {"accuracy": 0.5}, "values": {"accuracy": [0.25, 0.75]}}
    folder = stage("scores/oneshot/0", {**EXAMPLES["scores"], **values})
    (folder / "curve.csv").unlink()
    assert tracking.send(folder) is not None
    assert runs(store)[0].data.metrics["mean.accuracy"] == 0.5


def is_sent(folder):
    return tracking.unsent([folder]) == []


def track() -> int:
    return cli.run(cli.parser().parse_args(["track"]))


def test_nothing_is_sent_twice_until_it_is_made_anew(stage, store, capsys):
    folder = stage()
    assert not is_sent(folder)
    tracking.send(folder)
    assert is_sent(folder)
    assert track() == 0
    assert "sent 0 of 0" in capsys.readouterr().out
    assert len(runs(store)) == 1
    # the same work, its record written once more
    changes = {"finished": "2100-01-01T00:00:00+00:00", "accelerator_seconds": 13.5}
    reseal(folder / "run.json", changes)
    assert not is_sent(folder)
    assert track() == 0
    (run,) = runs(store)
    assert run.info.end_time == 4102444800000
    assert run.data.metrics["accelerator_seconds"] == 13.5
    assert points(store) == losses(CURVE)


def test_results_sent_twice_are_one_run_with_each_number_once(stage, store):
    folder = stage()
    first = tracking.send(folder)
    (folder / "mlflow.json").unlink()  # as where run.json came back from DVC's cache
    assert tracking.send(folder) == first
    (run,) = runs(store)
    for name in run.data.metrics:
        found = points(store, name)
        assert len(found) == len(set(found)) == (len(CURVE) if name in COLUMNS else 1), name
    assert tracking.send(folder) == first
    artifacts = {a.path for a in client(store).list_artifacts(first)}
    assert artifacts == {"run.json", "curve.csv", "model.pt"}


def test_a_sending_that_was_killed_early_is_gone_on_with(stage, store):
    folder = stage()
    key = json.loads((folder / "run.json").read_text(encoding="utf-8"))["run"]
    experiment = client(store).create_experiment("ghn-pipeline")
    for _ in range(2):  # one of them by a request that was taken for lost
        client(store).create_run(experiment, tags={"ghn.run": key})
    tracking.send(folder)
    assert status(store) == "FINISHED"
    assert points(store) == losses(CURVE)


def test_a_file_finds_its_run_and_a_run_its_files(stage, store):
    folders = {
        json.loads((f / "run.json").read_text(encoding="utf-8"))["run"]: str(f)
        for f in (stage(), stage())
    }
    folders |= {
        json.loads((stage("oneshot/0") / "run.json").read_text(encoding="utf-8"))[
            "run"
        ]: "results/smoke/oneshot/0"
    }
    assert len(folders) == 2  # a stage that is made again keeps its key
    for folder in folders.values():
        tracking.send(Path(folder))
    assert {run.data.tags["ghn.run"]: run.data.tags["folder"] for run in runs(store)} == folders


def names(store):
    return sorted(run.info.run_name for run in runs(store))


def forget():
    """Delete results and checkpoints, as a user does to begin anew."""
    shutil.rmtree("results")
    shutil.rmtree("checkpoints")


def test_one_name_is_one_run_after_its_results_were_deleted(stage, store):
    first = tracking.send(stage())
    forget()
    folder = stage()
    assert not is_sent(folder)
    second = tracking.send(folder)
    assert first != second
    assert names(store) == ["smoke/ghn/default"]
    assert points(store) == losses(CURVE)
    # MLflow keeps the older one among the deleted
    assert client(store).get_run(first).info.lifecycle_stage == "deleted"


def test_a_training_that_begins_anew_has_the_name_to_itself_at_once(configured, stage, store):
    tracking.send(stage())
    forget()
    anew = record.provenance(configured(), "ghn/default")
    with tracking.follow(anew, record.result_folder(configured(), "ghn/default")) as saved_as:
        saved_as(Log(CURVE[:1]))
        until(lambda: points(store) == losses(CURVE[:1]))
    assert status(store) == "RUNNING"


def test_a_run_of_other_settings_gives_the_name_to_the_newer(configured, stage, store):
    folder = stage()
    first = tracking.send(folder)

    def with_passes(passes):
        """Make the stage with other settings."""
        config = configured({"ghn.passes": passes})
        record.write(config, "ghn/default", EXAMPLES["ghn"], seconds=12.5)
        return tracking.send(folder)

    def name_of(run):
        return client(store).get_run(run).info.run_name

    def aside(run):
        return f"smoke/ghn/default@{client(store).get_run(run).data.tags['digest']}"

    second = with_passes(7)
    assert name_of(second) == "smoke/ghn/default"
    assert name_of(first) == aside(first)
    assert status_of(store, first) == status_of(store, second) == "FINISHED"
    # the settings are changed back: the first is gone on with, and has its name again
    assert tracking.send(stage()) == first
    assert name_of(first) == "smoke/ghn/default"
    assert name_of(second) == aside(second)
    # all is deleted, and made again with either settings: two names, two runs
    forget()
    third = with_passes(7)
    assert names(store) == ["smoke/ghn/default", aside(first)]
    forget()
    fourth = tracking.send(stage())
    assert {run.info.run_id for run in runs(store)} == {third, fourth}
    assert name_of(fourth) == "smoke/ghn/default"
    assert name_of(third) == aside(third)


def status_of(store, run):
    return client(store).get_run(run).info.status


def test_a_run_of_an_older_version_gives_its_name_away_too(stage, store):
    folder = stage()
    experiment = client(store).create_experiment("ghn-pipeline")
    older = client(store).create_run(
        experiment, tags={"ghn.run": "0" * 32, "digest": "1" * 16}, run_name="smoke/ghn/default"
    )
    tracking.send(folder)
    assert names(store) == ["smoke/ghn/default", "smoke/ghn/default@" + "1" * 16]
    assert client(store).get_run(older.info.run_id).info.run_name.endswith("1")


def test_the_runs_of_another_folder_are_left_alone(stage, store, tmp_path, monkeypatch):
    """As of a colleague, who has the same store and a checkout of his own."""
    tracking.send(stage())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    tracking.send(stage())
    assert names(store) == ["smoke/ghn/default"] * 2


def _send_to(uri, place, folder, barrier):
    os.environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_DISABLE_TELEMETRY="true")
    os.chdir(place)
    barrier.wait()
    assert tracking.send(folder) is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_one_name_is_one_run_of_processes_at_once(
    kind, stage, store, tmp_path, forkserver, request
):
    """All send the stage that was made again, of which the store has an older run."""
    uri = request.getfixturevalue("server").uri if kind == "server" else store
    tracking.send(stage())
    forget()
    folder, barrier = stage(), forkserver.Barrier(8)
    children = [
        forkserver.Process(target=_send_to, args=(uri, tmp_path, folder, barrier)) for _ in range(8)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert names(uri) == ["smoke/ghn/default"]
    assert status(uri) == "FINISHED"
    # a server may have been told a point twice
    assert sorted(set(points(uri))) == losses(CURVE)
    assert tracking.send(folder) is not None
    assert names(uri) == ["smoke/ghn/default"]


def test_workers_that_start_at_once_agree_on_the_run(configured, store):
    config, barrier = configured(), threading.Barrier(8)

    def name(found):
        barrier.wait()
        found.append(record.provenance(config, "oneshot/0")["run"])

    found = []
    workers = [threading.Thread(target=name, args=(found,)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 8
    assert set(found) == {record.provenance(config, "oneshot/0")["run"]}
    assert [path.suffix for path in Path("checkpoints/smoke/oneshot").iterdir()] == [".run"]


def test_another_store_gets_everything(stage, store, empty_store, monkeypatch, capsys):
    folder = stage()
    tracking.send(folder)
    other = f"sqlite:///{shutil.copy(empty_store, 'other.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert not is_sent(folder)
    assert track() == 0
    assert "sent 1 of 1" in capsys.readouterr().out
    assert is_sent(folder)
    for each in (store, other):
        assert points(each) == losses(CURVE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert not is_sent(folder)


def test_a_store_that_was_lost_gets_everything_again(stage, store, capsys):
    folder = stage()
    tracking.send(folder)
    (run,) = runs(store)
    client(store).delete_run(run.info.run_id)
    assert not is_sent(folder)
    assert track() == 0
    assert "sent 1 of 1" in capsys.readouterr().out
    assert is_sent(folder)
    assert points(store) == losses(CURVE)


def test_the_marker_tells_no_password(stage, monkeypatch):
    folder = stage()
    monkeypatch.setattr(stores, "in_time", lambda work: work(None))
    monkeypatch.setattr(tracking, "_send", lambda *_: "id")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@there:5000/mlflow")
    tracking.send(folder)
    marker = json.loads((folder / "mlflow.json").read_text(encoding="utf-8"))
    assert marker["store"] == "https://there:5000/mlflow"


def sends_nothing(folder: Path) -> bool:
    """Whether a job whose results are in a folder loads no MLflow."""
    code = f"""if True:
        import sys
        from pathlib import Path
        from ghn_pipeline.pipeline import tracking
        with tracking.follow({{}}, Path({str(folder)!r})) as take:
            take(None)
        tracking.done(Path({str(folder)!r}))
        assert not any(name.partition(".")[0] == "mlflow" for name in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], check=False)
    return done.returncode == 0 and not (folder / tracking.MARKER).exists()


def test_what_is_to_be_sent_later_loads_no_mlflow_and_is_sent_by_track(stage, store, monkeypatch):
    folder = stage()
    monkeypatch.setenv(tracking.WHEN, "later")
    assert sends_nothing(folder)
    tracking.prepare()
    assert not Path("mlflow.db").exists()
    monkeypatch.setenv(tracking.WHEN, "never")
    with pytest.raises(UserError, match="GHN_TRACKING is 'never': set it to later"):
        tracking.done(folder)
    assert tracking.unsent([folder]) == [folder]
    assert tracking.send(folder) is not None
    assert tracking.unsent([folder]) == []


def test_short_jobs_of_a_workflow_are_sent_at_its_end(stage, store, monkeypatch, capsys):
    folder = stage()
    monkeypatch.setenv(tracking.WHEN, "workflow")
    assert sends_nothing(folder)
    tracking.send_rest(folder)
    assert tracking.unsent([folder]) == []
    # and where the store is away, the workflow ends all the same
    (folder / tracking.MARKER).unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/run.json/store.db")
    tracking.send_rest(folder)
    assert "`ghn track` sends the results later" in capsys.readouterr().err


def test_long_jobs_of_a_workflow_send_their_own_results(stage, store, monkeypatch):
    folder = stage()
    monkeypatch.setenv(tracking.WHEN, "workflow")
    monkeypatch.setattr(tracking, "BEGUN", time.monotonic() - tracking.LONG)
    tracking.done(folder)
    assert tracking.unsent([folder]) == []


def test_a_store_is_prepared(tmp_path, store, monkeypatch, capfd):
    for _ in range(2):
        tracking.prepare()
    assert client(store).get_experiment_by_name("ghn-pipeline") is not None
    capfd.readouterr()
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        tracking.prepare()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow does not answer")


# ---- a training that goes on -------------------------------------------------------------------


def test_a_training_is_seen_while_it_goes_on(provenance, stage, store):
    folder = stage()
    with tracking.follow(provenance, folder) as saved_as:
        log = Log(curve=CURVE[:1], seconds=100)
        saved_as(log)
        until(lambda: points(store) == losses(CURVE[:1]))
        (run,) = runs(store)
        assert run.info.status == "RUNNING"
        assert abs(run.info.start_time / 1000 - (time.time() - 100)) < 90
        assert run.data.params["ghn.passes"] == str(provenance["settings"]["ghn"]["passes"])
        assert run.data.tags["commit"] == str(provenance["commit"])
        assert "slurm_job" not in run.data.tags
        log.curve = CURVE[:2]
        saved_as(log)
        until(lambda: points(store) == losses(CURVE[:2]))
    assert tracking.send(folder) == run.info.run_id
    assert status(store) == "FINISHED"
    assert points(store) == losses(CURVE)
    assert points(store, "learning_rate") == [(step, rate) for step, _, rate in CURVE]


def test_a_training_that_fails_is_marked_and_goes_on_later(provenance, stage, store):
    folder = stage()
    with (
        pytest.raises(UserError, match="stopped"),
        tracking.follow({**provenance, "slurm_job": "12"}, folder) as saved_as,
    ):
        saved_as(Log(CURVE[:2]))
        raise UserError("stopped by SIGTERM")
    assert status(store) == "KILLED"
    assert points(store) == losses(CURVE[:2])
    with tracking.follow({**provenance, "slurm_job": "15"}, folder) as saved_as:
        saved_as(Log(CURVE))
        until(lambda: points(store) == losses(CURVE))
        assert status(store) == "RUNNING"
    reseal(folder / "run.json", {"slurm_job": "15"})
    tracking.send(folder)
    assert status(store) == "FINISHED"
    assert runs(store)[0].data.tags["slurm_job"] == "12,15"
    assert points(store) == losses(CURVE)


def test_a_training_that_never_wrote_a_checkpoint_leaves_the_store_alone(provenance, store):
    # it may be the second of its name, refused, while the first goes on
    with pytest.raises(UserError), tracking.follow(provenance, Path("results")):
        raise UserError("another process is training")
    assert runs(store) == []


def _train_for_ever(place, uri, known):
    os.environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_DISABLE_TELEMETRY="true")
    os.chdir(place)
    with tracking.follow(known, Path("results")) as saved_as:
        saved_as(Log(CURVE[:1]))
        until(lambda: points(uri) == losses(CURVE[:1]))
        saved_as(Log(CURVE[:2]))
        signal.pause()


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_in_its_run(
    provenance, stage, store, tmp_path, forkserver
):
    killed = forkserver.Process(target=_train_for_ever, args=(tmp_path, store, provenance))
    killed.start()
    until(lambda: points(store) == losses(CURVE[:2]))
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert status(store) == "RUNNING"
    folder = stage()
    with tracking.follow(provenance, folder) as saved_as:
        saved_as(Log(CURVE[:2]))
        saved_as(Log(CURVE))
        until(lambda: points(store) == losses(CURVE))
    tracking.send(folder)
    assert status(store) == "FINISHED"
    assert points(store) == losses(CURVE)


def test_a_server_that_never_answers_is_not_waited_for(provenance, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.setattr(stores, "PATIENCE", 0)
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        with (
            pytest.raises(UserError),
            tracking.follow(provenance, Path("results")) as saved_as,
        ):
            saved_as(Log(CURVE[:1]))
            connection, _ = server.accept()
            assert connection.recv(1)  # the question is asked
            for count in (1, 2, 3):
                saved_as(Log(CURVE[:count]))
            raise UserError("stopped by SIGTERM")
        # all that has returned, and the question still stands
        assert threading.active_count() == before + 1
        assert capfd.readouterr().err == ""
        connection.close()
    until(lambda: threading.active_count() == before)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: results is not followed by MLflow")


class Server:
    """An MLflow server that can be stopped and started again."""

    def __init__(self, folder, database):
        self.database = shutil.copy(database, folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.folder = folder

    def start(self):
        words = ["server", "--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, "--port", str(self.port)],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self.answers)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health") as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path, store, empty_store, monkeypatch):
    server = Server(tmp_path, empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_has_everything(
    provenance, stage, server, monkeypatch, capfd
):
    folder = stage()
    with tracking.follow(provenance, folder) as saved_as:
        saved_as(Log(CURVE[:1]))
        until(lambda: points(server.uri) == losses(CURVE[:1]))
        server.stop()
        said = []
        for _ in range(2):  # it is said once
            saved_as(Log(CURVE[:2]))
            until(lambda: said.append(capfd.readouterr().err) or "warning" in "".join(said))
        server.start()
        saved_as(Log(CURVE[:2]))
        until(lambda: points(server.uri) == losses(CURVE[:2]))
        until(lambda: said.append(capfd.readouterr().err) or "again" in "".join(said))
        server.stop()
        saved_as(Log(CURVE))
    first, second = "".join(said).splitlines()
    assert first.startswith(f"warning: {folder} is not followed by MLflow")
    assert second == f"{folder} is followed by MLflow again"
    # and it comes back after the end only
    assert tracking.send(folder) is None
    assert "ghn track" in capfd.readouterr().err
    server.start()
    assert status(server.uri) == "RUNNING"
    assert track() == 0
    assert status(server.uri) == "FINISHED"
    assert points(server.uri) == losses(CURVE)
    number = runs(server.uri)[0].info.run_id
    artifacts = {a.path for a in client(server.uri).list_artifacts(number)}
    assert artifacts == {"run.json", "curve.csv", "model.pt"}


# ---- servers and processes ---------------------------------------------------------------------


def test_a_server_that_is_not_there_costs_a_warning_and_it_is_sent_later(
    stage, store, monkeypatch, capfd
):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        folders = [stage("ghn/default"), stage("oneshot/0")]
        assert [tracking.send(folder) for folder in folders] == [None, None]
        said = capfd.readouterr().err
        for folder in folders:
            assert f"warning: {folder} was not sent to MLflow" in said
        assert "Traceback" not in said
        assert not any((folder / "mlflow.json").exists() for folder in folders)
        # `ghn track` says so as well, as a failure
        assert track() == 1
        assert "the store of the runs cannot be used" in capfd.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert track() == 0
    assert "sent 2 of 2" in capfd.readouterr().out
    assert {run.info.run_name for run in runs(store)} == {"smoke/ghn/default", "smoke/oneshot/0"}


def test_the_warning_names_a_command_that_there_is(stage, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://")
    tracking.send(stage())
    command = capfd.readouterr().err.split("`")[1].split()
    assert command[0] == "ghn"
    cli.parser().parse_args(command[1:])  # exits where it does not know the words


def _is_there(uri, key):
    """Whether a run of that key has a loss, asked without MLflow."""
    question = (
        "select count(*) from metrics m join tags t on m.run_uuid = t.run_uuid "
        "where t.key = 'ghn.run' and t.value = ? and m.key = 'loss'"
    )
    path = uri.removeprefix("sqlite:///")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            return store.execute(question, [key]).fetchone()[0] > 0
    except sqlite3.OperationalError:  # no store, no table, or locked
        return False


def _follow_and_send(folder, uri, barrier):
    os.environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_DISABLE_TELEMETRY="true")
    os.chdir(folder.parents[3])
    known = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    barrier.wait()
    with tracking.follow(known, folder) as saved_as:
        saved_as(Log(CURVE[:1]))
        until(lambda: _is_there(uri, known["run"]))
        saved_as(Log(CURVE[:2]))  # it may or may not be sent before the end
    assert tracking.send(folder) is not None


@pytest.mark.slow
def test_forty_processes_at_once_on_a_fresh_store_lose_nothing(stage, tmp_path, forkserver):
    store = f"sqlite:///{tmp_path}/fresh.db"  # the tables are not made yet
    many = {"correlation.drawn": 40, "correlation.architectures": 40}
    folders = [tmp_path / stage(f"sgd/{i}", settings=many) for i in range(40)]
    barrier = forkserver.Barrier(40)
    children = [
        forkserver.Process(target=_follow_and_send, args=(f, store, barrier)) for f in folders
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 40
    found = {run.data.tags["folder"]: run for run in runs(store)}
    assert len(runs(store)) == 40
    assert set(found) == set(map(str, folders))
    for run in found.values():
        assert run.info.status == "FINISHED"
        assert run.data.params["sgd.epochs"] == "3"
        for column, name in enumerate(COLUMNS, 1):
            history = client(store).get_metric_history(run.info.run_id, name)
            told = sorted((point.step, point.value) for point in history)
            assert told == [(row[0], row[column]) for row in CURVE]
        assert len(client(store).list_artifacts(run.info.run_id)) == 3


# ---- files and stores that are not as they should be ---------------------------------------------


@pytest.mark.parametrize("content", ["[]", "{}", '{"run":', "null"])
def test_a_marker_that_is_not_whole_counts_as_not_sent(content, stage, store):
    folder = stage()
    tracking.send(folder)
    assert is_sent(folder)
    (folder / "mlflow.json").write_text(content, encoding="utf-8")
    assert not is_sent(folder)


def test_one_bad_record_does_not_keep_the_others_from_being_sent(stage, capsys):
    first, bad, last = stage("ghn/default"), stage("oneshot/0"), stage("sgd/0")
    (bad / "run.json").write_text('{"stage": ', encoding="utf-8")
    with pytest.raises(UserError, match="1 results were not sent"):
        cli.track(argparse.Namespace())
    assert is_sent(first)
    assert is_sent(last)
    (said,) = (s for s in capsys.readouterr().err.splitlines() if f"{bad} was not sent" in s)
    # a record that is damaged stays so
    assert "is not whole JSON" in said
    assert "Delete it and run `ghn oneshot 0` again" in said
    assert "later" not in said


def test_a_password_is_in_no_warning(stage, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking.send(stage())
    said = capsys.readouterr().err
    assert "was not sent" in said
    assert "secret" not in said


def test_an_empty_variable_names_no_store(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert stores.address() == stores.DEFAULT


def test_a_store_that_is_held_for_ever_costs_a_warning(stage, store, monkeypatch, capsys):
    monkeypatch.setattr(stores, "LOCK_PATIENCE", 0.2)
    folder = stage()
    with open(store.removeprefix("sqlite:///") + ".lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert tracking.send(folder) is None
    assert "is held by another process" in capsys.readouterr().err


def test_the_ui_of_a_server_is_the_servers(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="open it there"):
        cli.ui(argparse.Namespace(port=1))
