"""Runs sent to MLflow: all that is in the files, once, and never at the cost of a result."""

import json
import os
import shutil
import socket

import pytest

from ghn_pipeline import cli, record, tracking
from ghn_pipeline.files import write_atomically

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

    def make(name="ghn/default", result=None):
        result = result or {"steps": 30, "final_loss": 1.125, "measured": {10: {"accuracy": 0.25}}}
        record.write(configured(), name, result, seconds=12.5, hardware={"device": "cpu"})
        folder = record.result_folder(configured(), name)
        rows = "\n".join(",".join(map(str, row)) for row in CURVE)
        write_atomically(folder / "curve.csv", f"step,loss,learning_rate\n{rows}\n")
        write_atomically(folder / "model.pt", b"weights")
        return folder

    return make


def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store)


def runs(store):
    found = client(store)
    experiment = found.get_experiment_by_name("ghn-pipeline")
    return found.search_runs([experiment.experiment_id]) if experiment else []


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
    assert params["data_order"] == "3"
    assert params["space.operations"] == str(config.space.operations)

    said = json.loads((folder / "run.json").read_text())
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
    (folder / "curve.csv").write_text(f"step,loss,learning_rate\n{rows}\n")
    run_id = tracking.send(folder)
    history = client(store).get_metric_history(run_id, "learning_rate")
    assert [m.step for m in history] == list(range(1, 1501))


def test_a_stage_without_a_curve_is_sent(stage, store):
    folder = stage("scores/oneshot", {"mean_accuracy": 0.5, "accuracies": [0.25, 0.75]})
    (folder / "curve.csv").unlink()
    assert tracking.send(folder) is not None
    assert runs(store)[0].data.metrics["mean_accuracy"] == 0.5


def test_nothing_is_sent_twice_until_it_is_made_anew(stage, store, monkeypatch, capsys):
    folder = stage()
    assert not tracking.is_sent(folder)
    tracking.send(folder)
    assert tracking.is_sent(folder)
    monkeypatch.setattr("sys.argv", ["ghn", "track"])
    assert cli.main() == 0
    assert "sent 0 of 0" in capsys.readouterr().out
    assert len(runs(store)) == 1
    # another run of the same stage, later
    said = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**said, "finished": "2100-01-01T00:00:00+00:00"}))
    assert not tracking.is_sent(folder)
    assert cli.main() == 0
    assert len(runs(store)) == 2


def test_a_server_that_is_not_there_costs_a_warning_and_it_is_sent_later(
    stage, store, monkeypatch, capfd
):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        folders = [stage("ghn/default"), stage("oneshot")]
        assert [tracking.send(folder) for folder in folders] == [None, None]
        said = capfd.readouterr().err
        for folder in folders:
            assert f"warning: {folder} was not sent to MLflow" in said
        assert "Traceback" not in said
        assert not any(map(tracking.is_sent, folders))
        # `ghn track` says so as well, as a failure
        monkeypatch.setattr("sys.argv", ["ghn", "track"])
        assert cli.main() == 1
        assert "try again later" in capfd.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert cli.main() == 0
    assert "sent 2 of 2" in capfd.readouterr().out
    assert {run.info.run_name for run in runs(store)} == {"smoke/ghn/default", "smoke/oneshot"}


def test_the_warning_names_a_command_that_there_is(stage, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://")
    tracking.send(stage())
    command = capfd.readouterr().err.split("`")[1].split()
    assert command[0] == "ghn"
    cli.parser().parse_args(command[1:])  # exits where it does not know the words


def _send(folder, uri, barrier):
    os.environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_DISABLE_TELEMETRY="true")
    os.chdir(folder.parents[3])
    barrier.wait()
    assert tracking.send(folder) is not None


@pytest.mark.slow
def test_eight_processes_at_once_on_a_fresh_store_lose_nothing(stage, tmp_path, forkserver):
    store = f"sqlite:///{tmp_path}/fresh.db"  # the tables are not made yet
    folders = [tmp_path / stage(f"sgd/{i:03d}") for i in range(8)]
    barrier = forkserver.Barrier(8)
    children = [forkserver.Process(target=_send, args=(f, store, barrier)) for f in folders]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8
    assert all(map(tracking.is_sent, folders))
    found = runs(store)
    assert sorted(r.info.run_name for r in found) == [f"smoke/sgd/{i:03d}" for i in range(8)]
    for run in found:
        assert run.info.status == "FINISHED"
        assert run.data.params["sgd.epochs"] == "3"
        history = client(store).get_metric_history(run.info.run_id, "learning_rate")
        assert len(history) == len(CURVE)
        assert len(client(store).list_artifacts(run.info.run_id)) == 3
