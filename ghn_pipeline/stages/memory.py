"""The memory of a one-shot model and of a GHN by the number of operations and nodes (7.1)."""

import time
from typing import TYPE_CHECKING

from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.stages.shared import Job, Shown, stage
from ghn_pipeline.system.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from ghn_pipeline.report.paper.claims import Finding


@stage(
    "memory",
    result="Memory",
    settings=(
        "scale",
        "space",
        "network",
        "images.resolution",
        "models.{first_ghns[0]}",
        "memory",
        "sgd.momentum",
    ),
    writes=("memory.csv", "memory.svg", "memory.png", "memory.findings.json"),
    needs="measuring",
    chapters=("memory",),
    shown={"memory.svg": Shown("memory.rst", "Memory", "against K and N")},
)
def memory(job: Job) -> None:
    """Measure the training memory of the one-shot model and the first GHN (7.1).

    It counts their parameters, and the peak of the tensors in training.
    """

    from ghn_pipeline.pipeline import findings, record, tracking
    from ghn_pipeline.pipeline.machine import hardware, prepare_device
    from ghn_pipeline.pipeline.spaces import paper_space
    from ghn_pipeline.report.extra.memory_figure import memory_figure
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.training.memory import sweep

    config = job.config
    device, begun = prepare_device(config), time.monotonic()
    ghn = config.models[config.first_ghns[0]]
    found = sweep(
        paper_space(config),
        ghn,
        config.sgd,
        nodes=config.space.nodes,
        node_counts=config.memory.nodes,
        resolution=config.images.resolution,
        device=device,
        log_seconds=config.compute.log_seconds,
    )
    folder = result_folder(config, "memory")
    write_atomically(folder / "memory.csv", found.to_csv(index=False))
    note = config.small(config.network_note)
    save(memory_figure(found, batch=ghn.batch, scale_note=note), folder / "memory")
    largest = found[(found.axis == "nodes") & (found.nodes == found.nodes.max())]
    columns = ["parameters", "peak_bytes"]
    result = largest.set_index("model")[columns].astype(int).to_dict("index")
    seconds = time.monotonic() - begun
    findings.write(config, "memory/memory", [_growth(found, config.scale)])
    outputs = ["memory.csv", "memory.png", "memory.svg", "memory.findings.json"]
    record.write(
        config, "memory", result, seconds=seconds, outputs=outputs, hardware=hardware(device)
    )
    tracking.done(folder)
    print(f"see {folder}/memory.png")


def _growth(found: "pd.DataFrame", scale: str) -> "Finding":
    """Return the finding about claim 18: how both models' parameters grow with the nodes."""
    import numpy as np

    from ghn_pipeline.report.paper.claims import Finding

    of = found[found.axis == "nodes"]
    slope = {
        model: float(np.polyfit(np.log(rows.nodes), np.log(rows.parameters), 1)[0])
        for model, rows in of.groupby("model")
    }
    ratio = max(0.0, round(slope["ghn"] / slope["oneshot"], 6))
    said = f"parameters of blocks of {of.nodes.min()} to {of.nodes.max()} nodes, counted"
    return Finding(18, ratio, ratio, ratio, scale, said, exact=True)
