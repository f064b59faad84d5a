"""CIFAR-10 (section 5.1.1) and the architectures of the test set (section 5.3)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.stages.shared import Job, stage
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    from ghn_pipeline.model.graph import Block
    from ghn_pipeline.settings.config import Config


def _images(config: "Config", part: str) -> costs.Costs:
    from ghn_pipeline.data.cifar10 import BATCH_RECORDS, BATCHES, RECORD_BYTES

    return costs.Costs(len(BATCHES) * BATCH_RECORDS * RECORD_BYTES)


@stage(
    "data",
    writes=("cifar10.bin",),
    root="{data.folder}",
    memory_mb=3000,
    minutes=60,
    costs=_images,
)
def data(job: Job) -> None:
    """Get CIFAR-10 and verify every pixel and label.

    It reads a local copy, or downloads one: it tries the entries of data.sources in their order.
    """
    from ghn_pipeline.data import cifar10

    data = job.config.data
    cifar10.obtain(
        Path(data.folder), data.sources, data.local, lambda line: print(line, flush=True)
    )


@stage(
    "architectures",
    result="Architectures",
    writes=("architectures.json", "selection.json"),
    settings=(
        "space",
        "correlation.drawn",
        "correlation.selection",
        "seeds.test_architectures",
    ),
    given=("benchmark.table",),
    memory_mb=1500,
)
def architectures(job: Job) -> None:
    """Draw the test architectures (section 5.3) and the selection, for choices.

    If benchmark.table names a file of published accuracies, they are drawn from it.
    """
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.build import draw_held_out

    config = job.config
    test, selection = draw_held_out(config)
    folder = result_folder(config, "architectures")
    _write_blocks(folder / "architectures.json", test)
    _write_blocks(folder / "selection.json", selection)
    result: dict[str, Any] = {"architectures": len(test), "selection": len(selection)}
    published = config.space.published(config.benchmark.table)
    if published and published.note:
        result["published"] = published.note
        print(published.note)
    outputs = ["architectures.json", "selection.json"]
    record.write(config, "architectures", result, seconds=0, outputs=outputs)
    tracking.done(folder)
    print(f"drew {len(test)} test architectures and a selection of {len(selection)} others")


def _write_blocks(path: Path, blocks: "list[Block]") -> None:

    lines = ",\n".join(json.dumps({"hash": b.hash, "block": b.to_json()}) for b in blocks)
    write_atomically(path, f"[\n{lines}\n]\n")
