"""The store of MLflow's runs: its address, the connection, and the limits of waiting for it.

There are two kinds of waiting. A silent server or database on another machine is given up after
`PATIENCE` seconds. An SQLite file is never silent, only locked by another process, so this one
waits for the lock up to `LOCK_PATIENCE` seconds, and nothing is lost.
"""

import logging
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_plus

from ghn_pipeline.system.files import lock

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

DEFAULT = "sqlite:///mlflow.db"
#: seconds in all that a process waits for a silent store
PATIENCE = 6
#: seconds that a process waits for the lock of an SQLite store
LOCK_PATIENCE = 300
#: the lowest rate of sending an artifact, in bytes per second
SLOWEST = 1e6


# ---- the address -------------------------------------------------------------------------------


def address() -> str:
    """Return the address of the store in force."""
    # an empty variable names no store
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def public(uri: str) -> str:
    """Return an address without its secrets: user, password, parameters, query and fragment.

    If the end of a password or of a query is unclear, more of the address is left out.
    """
    match = re.fullmatch(r"([A-Za-z][\w+.-]*:)?(/*)(.*)", uri, re.DOTALL)
    assert match
    scheme, slashes, rest = match[1] or "", match[2], match[3]
    shown, tail = _cut(rest)
    # the path of a file may hold an @, so it has no user part
    if not (re.match("sqlite|file:|$", scheme) and slashes not in ("", "//")):
        if "@" not in tail:
            shown = shown.rpartition("@")[2]
        elif ":" in shown or "@" in shown:
            shown = ""
    return scheme + slashes + shown


def _cut(rest: str) -> tuple[str, str]:
    end = re.search("[?#;&]", rest)
    return (rest[: end.start()], rest[end.start() :]) if end else (rest, "")


def gives_away(text: str, uri: str) -> bool:
    """Return whether `text` holds a part of the address that `public` leaves out.

    A library may print such a part encoded, in another case, or in pieces.
    """
    hidden = _words(uri) - _words(public(uri))
    if not uri.lower().startswith("http"):
        # the user of a database is no secret; the user of a server may be a token
        user = re.match(r"[\w+.-]+://([^:/?#;&@]+):", uri)
        hidden -= _words(user[1]) if user else set()
    for variable in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        hidden |= _words(os.environ.get(variable, ""))
    said = _words(text)
    return any(word in said or (len(word) > 3 and word in " ".join(said)) for word in hidden)


def _words(text: str) -> set[str]:
    """Return the words of a text and of its decoded forms, in lower case."""
    found: set[str] = set()
    while True:
        # also from capitals, which turn a dotless i into I and so into a plain i
        for form in (text, text.upper()):
            # also words of ASCII alone, because other letters may be escaped
            words = re.findall(r"\w+", form) + re.findall("[A-Za-z0-9]+", form)
            found |= {word.lower() for word in words}
        if (plain := unquote_plus(text)) == text:
            return found
        text = plain


# ---- errors ------------------------------------------------------------------------------------


def reason(error: Exception) -> str:
    """Return a line on why the store cannot be used and how to mend it, without secrets."""
    if version := re.search(r"out-of-date database schema \(found version (\w+)", str(error)):
        return _mend_schema(version[1])
    if unknown := re.search(r"Can't locate revision identified by '(\w+)'", str(error)):
        return _mend_schema(unknown[1])
    said = next(iter(f"{type(error).__name__}: {error}".splitlines()))
    if not gives_away(said, address()):
        return shorten(said, 150)
    first: BaseException = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    kinds = " from ".join(dict.fromkeys(type(each).__name__ for each in (error, first)))
    return f"{kinds} at {public(address())}; its words would show the whole address"


def _mend_schema(version: str) -> str:
    """Return how to mend a database whose schema is not that of this version of MLflow."""
    import mlflow
    import mlflow.store.db_migrations

    shown = public(address())
    known = Path(mlflow.store.db_migrations.__file__).parent / "versions"
    if version != "None" and not list(known.glob(f"{version}_*.py")):
        return (
            f"{shown} was made by a newer MLflow than this one, {mlflow.__version__}; run "
            "`pip install --upgrade mlflow`"
        )
    secret = "" if shown == address() else " (with the parts of the address left out here)"
    return (
        f"{shown} has the schema of another MLflow than this one, {mlflow.__version__}; make a "
        f"copy of it, then run `mlflow db upgrade {shown}`{secret}"
    )


# ---- waiting -----------------------------------------------------------------------------------


class _Silence:
    """The time that this process has waited since a store last answered.

    Attributes:
        answers: the number of answers.
        allowed: further seconds for the file that is being sent.
        seconds: seconds of silence so far, over all requests.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.allowed = 0.0
        self.seconds = 0.0

    def end(self, answer: "Future[T]", patience: float) -> T:
        """Wait for an answer.

        Raises:
            TimeoutError: the store has been silent for too long.
        """
        heard = self.answers
        while not answer.done():
            if self.seconds >= patience + self.allowed:
                raise TimeoutError(f"no answer in {patience} seconds")
            begun = time.monotonic()
            wait([answer], 0.1)
            self.seconds += time.monotonic() - begun
            if self.answers != heard:
                heard, self.seconds = self.answers, 0.0
        return answer.result()


class _Heard:
    """A client that notes every answer."""

    def __init__(self, client: "MlflowClient", silence: _Silence) -> None:
        self._client, self._silence = client, silence

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*words: Any, **named: Any) -> Any:
            answer = getattr(self._client, name)(*words, **named)
            self._silence.answers += 1
            return answer

        return ask

    def log_artifact(self, run: str, path: str) -> None:
        """Send a file, with a time limit in proportion to its size."""
        self._silence.allowed = os.path.getsize(path) / SLOWEST
        try:
            self._client.log_artifact(run, path)
            self._silence.answers += 1
        finally:
            self._silence.allowed = 0.0


# by address
_silences: defaultdict[str, _Silence] = defaultdict(_Silence)
# one thread at a time: the last update of a training must not cross with the final sending
_turn = threading.Lock()


def in_time(work: Callable[["MlflowClient"], T]) -> T:
    """Return the result of `work` with a client of the store.

    The work runs in a thread of its own, because nothing else ends a request to a server that
    trickles, to a name that is not resolved, or to a database's driver. An abandoned thread does
    not keep the process alive, and an abandoned store is not asked again.

    Raises:
        TimeoutError: the store has been silent for `PATIENCE` seconds in all.
        Exception: MLflow raises it.
    """
    # imported here, so that its seconds do not count as silence of the store
    from mlflow.tracking import MlflowClient  # noqa: F401

    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(_until_unlocked(work))
        except BaseException as error:  # the waiting thread raises it
            answer.set_exception(error)

    silence = _silences[address()]
    patience = PATIENCE + (LOCK_PATIENCE if _is_sqlite(address()) else 0)
    if silence.seconds < patience:
        threading.Thread(target=ask, daemon=True).start()
    return silence.end(answer, patience)


def _until_unlocked(work: Callable[["MlflowClient"], T]) -> T:
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            with connected() as client:
                return work(client)
        except Exception as error:
            # another program holds the store: repeat the work, which skips finished parts
            if "database is locked" not in str(error) or time.monotonic() >= end:
                raise
        time.sleep(0.5)


@contextmanager
def connected() -> Iterator["MlflowClient"]:
    """Provide a client of the store to one thread of this process at a time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # the printed address would show its secrets
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    uri = address()
    with _turn:
        from mlflow.tracking import MlflowClient

        for library in (
            "mlflow",
            "urllib3",
        ):  # their logs would show the address; errors are raised
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with _opened(uri):
            yield cast("MlflowClient", _Heard(MlflowClient(uri), _silences[uri]))


@contextmanager
def _opened(uri: str) -> Iterator[None]:
    """Try a database, and let one process of this machine at a time into an SQLite store.

    If several processes open a new SQLite store at once, all except one fail.
    """
    if not re.match("(sqlite|postgresql|mysql|mssql)[+:]", uri):
        yield
        return
    # the import takes a second, so it comes before others have to wait for the lock
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    if not _is_sqlite(uri):
        _try(uri)
        yield
        return
    with open(re.sub("^sqlite[^:]*:///", "", public(uri)) + ".lock", "w", encoding="utf-8") as file:
        lock(file, LOCK_PATIENCE)  # its holder may be frozen, or on a lost node
        if uri.startswith("sqlite:///"):
            _make(Path(uri.removeprefix("sqlite:///").partition("?")[0]))
        _try(uri)
        yield


def _make(path: Path) -> None:
    """Make a new SQLite store, whole or not at all, because MLflow cannot repair half a store."""
    if path.exists():
        return
    from mlflow.store.db import utils

    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{new}")  # type: ignore[no-untyped-call]
    utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    engine.dispose()
    os.replace(new, path)


@cache  # failures raise and are not cached
def _try(uri: str) -> None:
    """Connect to a database once; MLflow itself would try for minutes before it fails.

    Raises:
        Exception: there is no connection, or the schema has another version.
    """
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    # a new database has no version; MLflow would upgrade an older one without a copy or a word
    if utils._get_schema_version(engine):  # type: ignore[no-untyped-call]
        utils._verify_schema(engine)  # type: ignore[no-untyped-call]
    engine.dispose()


def _is_sqlite(uri: str) -> bool:
    return re.match("sqlite[^:]*:///", uri) is not None
