"""The store's address, whose secrets are told to nobody; waiting for it; databases of others."""

import http.server
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stage_results import finish

from ghn_pipeline import cli
from ghn_pipeline.pipeline import store, tracking
from ghn_pipeline.system.errors import UserError

RECORD = {
    "run": "0123456789abcdef",
    "stage": "oneshot/0",
    "scale": "smoke",
    "digest": "fedcba9876543210",
    "settings": {"seed": 1},
    "commit": None,
    "dirty": None,
    "slurm_job": None,
    "finished": "2026-11-28T12:00:00+00:00",
    "result": {"steps": 3},
    "accelerator_seconds": 1.5,
}


@pytest.fixture
def folder(tmp_path, monkeypatch, configured):
    """The folder of a finished stage, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "_silences", type(store._silences)(store._Silence))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # so that the retrying is logged
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    return tmp_path / finish(configured(), "oneshot/0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An SQLite store with its tables: making them takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("whole") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(folder, whole, monkeypatch):
    """The store: an SQLite file."""
    # by its whole path, for MLflow keeps the stores that it has opened by their addresses
    path = Path(shutil.copy(whole, folder.parents[2]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path


# ---- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("sqlite:///mlflow.db?key=hunter2", "sqlite:///mlflow.db"),
        ("/data/me@work/mlruns", "/data/me@work/mlruns"),
        ("databricks://profile", "databricks://profile"),
        ("https://there:5000/mlflow", "https://there:5000/mlflow"),
        ("https://hunter2@there:5000/mlflow", "https://there:5000/mlflow"),
        ("https://me:hunter2@there:5000/mlflow", "https://there:5000/mlflow"),
        ("https://me:hun/ter2@there/mlflow", "https://there/mlflow"),
        ("https://me:hun@ter2@there/mlflow", "https://there/mlflow"),
        ("https://me:hun?ter2@there/mlflow", "https://"),
        ("https://me:hun#ter2@there/mlflow", "https://"),
        ("https://there/mlflow?token=hunter2", "https://there/mlflow"),
        ("https://there/mlflow?token=hun@ter2", "https://there/mlflow"),
        ("https://there/mlflow#hunter2", "https://there/mlflow"),
        ("https://there/mlflow;password=hunter2", "https://there/mlflow"),
        ("https://there/mlflow&token=hunter2", "https://there/mlflow"),
        ("https://there?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2", "https://there"),
        ("http:///me:hunter2@there", "http:///there"),
        ("me:hunter2@there", "me:there"),
        ("postgresql+psycopg2://me:hunter2@there/db?password=hunter2", "postgresql+psycopg2://there/db"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2", "mssql+pyodbc:///"),
        ("sqlite+pysqlcipher://:hunter2@/mlflow.db", "sqlite+pysqlcipher:///mlflow.db"),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_address(uri, shown):
    assert store.public(uri) == shown


SECRETS = st.text(
    st.characters(exclude_categories=["C", "Z", "P", "S"], max_codepoint=0x24F), min_size=4
).map(lambda text: "q7" + text)  # in no text by chance
PLACES = [
    "https://{}@there.example/mlflow",
    "https://me:{}@there.example:5000/mlflow",
    "https://there.example/mlflow?token={}",
    "https://there.example/mlflow?user=me&access_key={}&region=x",
    "https://there.example/mlflow#{}",
    "https://there.example/mlflow;password={}",
    "postgresql://me:{}@there.example/db",
    "postgresql://there.example/db?password={}&sslmode=require",
    "mysql+pymysql://me:{}@there.example:3306/db",
    "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{}",
    "me:{}@there.example",
]
ECHOES = [
    lambda uri, secret: f"cannot connect to {uri}",
    lambda uri, secret: f"Max retries exceeded with url: /api?{secret}/api/2.0/mlflow",
    lambda uri, secret: f"failed: {quote(uri, safe='')}",
    lambda uri, secret: f"failed: {quote(quote_plus(uri), safe='')}",
    lambda uri, secret: f"invalid port {secret!r}",
    lambda uri, secret: f"invalid port {secret!a}",
    lambda uri, secret: f"no such host: {secret.upper()}",
    lambda uri, secret: f"b'{secret}'\nand more",
]


@given(st.sampled_from(PLACES), st.sampled_from(ECHOES), SECRETS, st.booleans())
@example(PLACES[0], ECHOES[6], "q70ı00", False)  # its capitals are those of another word
def test_no_error_shows_a_secret(place, echo, secret, encoded):
    uri = place.format(quote(secret, safe="") if encoded else secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        said = store.reason(OSError(echo(uri, secret)))
    assert "OSError" in said
    for form in (secret, quote(secret, safe=""), ascii(secret)[1:-1], secret.upper()):
        assert form not in said
        assert form not in store.public(uri)


def test_an_error_without_a_secret_keeps_its_words(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter2@there/db")
    error = OSError("password authentication failed for user 'me'")
    assert store.reason(error) == f"OSError: {error}"


def test_the_token_of_the_environment_is_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://there")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2\n")
    said = store.reason(ValueError("Invalid header value b'Bearer hunter2\\n'"))
    assert "hunter2" not in said
    assert "https://there" in said


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers every question with an error that repeats it."""

    status = 500

    def do_GET(self):
        body = f"no idea of {self.requestline}".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [200, 403, 404, 500])
@pytest.mark.parametrize(
    "form", ["http://{}/?token=hunter2", "http://me:hunter2@{}", "http://{}/x;password=hunter2"]
)
def test_a_server_that_repeats_the_address_is_not_repeated(
    folder, form, status, monkeypatch, capfd
):
    monkeypatch.setattr(_Echo, "status", status)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = form.format(f"127.0.0.1:{server.server_port}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracking.prepare()
        assert tracking.send(folder) is None
        with pytest.raises(ZeroDivisionError), tracking.follow(RECORD, folder) as saved_as:
            from ghn_pipeline.training.fit import Log

            saved_as(Log([(1, 2.0, 0.1)]))
            raise ZeroDivisionError
        with pytest.raises(UserError) as refused:
            tracking.check()
        server.shutdown()
    out, err = capfd.readouterr()
    assert err.count("warning: ") == 3
    assert "hunter2" not in out + err + str(refused.value)
    assert not (folder / "mlflow.json").exists()


def test_a_secret_is_in_no_file_and_no_tag(database, folder, monkeypatch):
    # SQLite takes settings of its driver behind the "?"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}?timeout=77.123456")
    assert tracking.send(folder) is not None
    assert tracking.unsent([folder]) == []
    for path in Path().rglob("*"):
        assert "77.123456" not in path.name
        assert path.is_dir() or b"77.123456" not in path.read_bytes(), path


@pytest.mark.slow
def test_the_ui_shows_no_secret_in_the_process_list(database):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{database}?timeout=77.123456"}
    with open("said", "w", encoding="utf-8") as said:
        ui = subprocess.Popen(
            [sys.executable, "-m", "ghn_pipeline.cli", "ui", "--port", str(port)],
            env=environment, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    try:
        with closing(socket.socket()) as question:
            while question.connect_ex(("127.0.0.1", port)) != 0:
                assert ui.poll() is None, Path("said").read_text(encoding="utf-8")
                time.sleep(0.1)
        found = 0
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(entry.name)) == ui.pid:
                    found += 1
                    assert b"77.123456" not in (entry / "cmdline").read_bytes()
            except ProcessLookupError:
                continue
        assert found > 1  # the server's workers as well
    finally:
        os.killpg(ui.pid, 9)
        ui.wait()
    assert "77.123456" not in Path("said").read_text(encoding="utf-8")


# ---- silence -----------------------------------------------------------------------------------


@contextmanager
def silent(trickle):
    """A server that accepts connections and never answers, or one byte a second."""

    def answer(connection):
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                connection.sendall(b" ")
                time.sleep(1)
        except OSError:  # the client is gone
            pass

    def accept():
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:  # closed
                return
            if trickle:
                threading.Thread(target=answer, args=(held[-1],), daemon=True).start()

    held = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", held
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


JOB = """
import socket, sys, time
from pathlib import Path
import mlflow.tracking
from ghn_pipeline.pipeline import record, tracking
from ghn_pipeline.training.fit import Log
import json
if "unresolved" in sys.argv:
    socket.getaddrinfo = lambda *words, **named: time.sleep(3600)
folder = Path("results/smoke/oneshot/0")
known = json.loads((folder / "run.json").read_text(encoding="utf-8"))
begun = time.monotonic()
if "prepare" in sys.argv:
    tracking.prepare()
    tracking.prepare()
else:
    with tracking.follow(known, folder) as saved_as:
        saved_as(Log([(1, 2.0, 0.1)]))
        print(time.monotonic() - begun)
    for _ in range(3):
        tracking.send(folder)
print(time.monotonic() - begun)
"""


@pytest.mark.parametrize("how", ["prepare", "train"])
@pytest.mark.parametrize("kind", ["silent", "trickle", "unresolved", "database"])
def test_a_store_that_never_answers_costs_ten_seconds_in_all(folder, kind, how):
    with silent(kind == "trickle") as (uri, held):
        if kind == "unresolved":
            uri = "http://nowhere.example"
        if kind == "database":
            uri = uri.replace("http://", "mssql+silent://me:hunter2@") + "/db"
        # as long as a user may set it; and without any retry that may hide the silence
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "600",
        }
        job = DRIVER + JOB if kind == "database" else JOB
        done = subprocess.run(
            [sys.executable, "-c", job, how, kind],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )  # which ends the process as well
        assert kind == "unresolved" or held
    assert done.returncode == 0, done.stderr
    *until_trained, in_all = map(float, done.stdout.split())
    assert all(seconds < 5 for seconds in until_trained)  # it does not wait for an answer
    assert in_all < 10
    lines = done.stderr.splitlines()
    assert len(lines) == (2 if how == "prepare" else 3)
    assert all("no answer in 6 seconds" in line for line in lines)
    assert "hunter2" not in done.stderr


#: A database's driver that waits for its server in C, where nothing of Python's ends it.
DRIVER = """
import socket
import sqlalchemy.dialects
from sqlalchemy.engine.default import DefaultDialect
class Silent(DefaultDialect):
    @classmethod
    def import_dbapi(cls):
        import sqlite3
        return sqlite3
    def connect(self, *words, host, port, **named):
        return socket.create_connection((host, port)).recv(1)
sqlalchemy.dialects.registry.register("mssql.silent", "__main__", "Silent")
"""


def test_another_store_is_asked_although_one_was_silent(database, folder, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    with silent(False) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking.send(folder) is None
    # what was given up holds the turn until its connection ends
    monkeypatch.setattr(store, "PATIENCE", 60)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    assert tracking.send(folder) is not None


def test_a_large_file_may_take_longer(folder, monkeypatch):
    """As long as at the slowest rate, where nothing else is heard meanwhile."""

    class Slow:
        def log_artifact(self, run, path):
            time.sleep(1.5)

    @contextmanager
    def connected():
        yield store._Heard(Slow(), store._silences[store.address()])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    monkeypatch.setattr(store, "connected", connected)
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    (folder / "model.pt").write_bytes(bytes(5_000_000))
    store.in_time(lambda client: client.log_artifact("id", str(folder / "model.pt")))
    (folder / "model.pt").write_bytes(bytes(1000))
    with pytest.raises(TimeoutError, match="no answer"):
        store.in_time(lambda client: client.log_artifact("id", str(folder / "model.pt")))


@pytest.mark.slow
def test_a_database_that_another_program_locks_for_long_gets_the_result(database, folder, capfd):
    """Longer than SQLite and MLflow wait by themselves, and than a server is waited for."""
    locked = sqlite3.connect(database, check_same_thread=False)
    locked.execute("begin exclusive")
    unlock = threading.Timer(40, locked.rollback)
    unlock.start()
    assert tracking.send(folder) is not None
    unlock.join()
    locked.close()
    assert capfd.readouterr().err == ""


def test_a_database_that_cannot_be_opened_says_so_at_once(folder, monkeypatch, capfd):
    Path("mlflow.db").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert tracking.send(folder) is None
    assert "unable to open database file" in capfd.readouterr().err


@pytest.mark.slow
def test_a_kill_while_a_database_is_made_leaves_none_or_a_whole_one(folder, monkeypatch, capfd):
    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    words = [sys.executable, "-c", "from ghn_pipeline.pipeline import tracking; tracking.prepare()"]
    for seconds in (0.2, 0.6):  # since its making began, which takes more than a second
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as killed:
            while not list(folder.glob("mlflow.db*[!k]")):
                assert killed.poll() is None
                time.sleep(0.005)
            time.sleep(seconds)
            killed.kill()
    assert tracking.send(folder) is not None
    assert "warning" not in capfd.readouterr().err


# ---- databases of other versions ---------------------------------------------------------------


@pytest.fixture
def of_version(database):
    """Make the database one of an MLflow with another schema."""

    def make(version):
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("update alembic_version set version_num = ?", [version])

    return make


OLDER = "cbc13b556ace"  # of MLflow 3.1


def test_an_older_database_is_answered_with_the_command_that_mends_it(
    of_version, database, folder, monkeypatch, capfd
):
    of_version(OLDER)
    tracking.prepare()
    assert tracking.send(folder) is None
    with pytest.raises(UserError, match="mlflow db upgrade"):
        cli.ui(cli.parser().parse_args(["ui"]))
    for line in capfd.readouterr().err.splitlines():
        assert line.startswith("warning: ")
        assert f"`mlflow db upgrade sqlite:///{database}`" in line
        assert len(line) < 600


def test_the_command_that_mends_an_older_database_shows_no_secret(
    of_version, database, folder, monkeypatch, capfd
):
    of_version(OLDER)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}?timeout=77.123456")
    assert tracking.send(folder) is None
    said = capfd.readouterr().err
    assert f"`mlflow db upgrade sqlite:///{database}` (with the parts of the address" in said
    assert "77.123456" not in said


@pytest.mark.slow
def test_the_command_mends_it(folder, monkeypatch, capfd):
    """Of a database that is made up to an older version, as that version's MLflow made it."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    engine = create_sqlalchemy_engine(uri)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)  # MLflow 3.1's
    engine.dispose()
    capfd.readouterr()
    assert tracking.send(folder) is None
    words = capfd.readouterr().err.split("`")[1].split()
    assert words[0] == "mlflow"
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    assert tracking.send(folder) is not None


def test_a_newer_database_is_answered_with_a_newer_mlflow(of_version, folder, capfd):
    of_version("ffffffffffff")
    assert tracking.send(folder) is None
    said = capfd.readouterr().err
    assert "made by a newer MLflow" in said
    assert "`pip install --upgrade mlflow`" in said
    assert "db upgrade" not in said
