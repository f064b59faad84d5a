"""The winner as something that others can use (section 7.5.1)."""

import argparse

from ghn_pipeline.stages.shared import start


def export(args: argparse.Namespace) -> None:
    """Export the winner: its architecture, its drawing, its trained weights, and as ONNX.

    Reads results/SCALE/winner, results/SCALE/finalists/best/SEED and {data.folder}/cifar10.bin.
    Writes results/SCALE/export: architecture.json, figure7.png, .svg, model.pt, model.onnx,
    run.json.
    """
    import torch

    from ghn_pipeline import export
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.artifacts import (
        images_of,
        load_weights,
        paper_space,
        trained_on,
        winner,
    )
    from ghn_pipeline.pipeline.stages import exported, finalist_recipe, result_folder
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.figure7 import figure7
    from ghn_pipeline.training.finalist import Finalist

    config = start(args, "export")
    stage, block, space = exported(config), winner(config), paper_space(config)
    run = trained_on(config, stage, block)
    network = Network(space.modules(block), config.images.resolution)
    model = Finalist(network, finalist_recipe(config, "best"), stream(0))
    load_weights(config, stage, model)
    folder, images = result_folder(config, "export"), images_of(config, torch.device("cpu"))
    export.save(folder, space, block, model.trained, images.mean, images.std)
    export.write_onnx(export.load(folder), folder / "model.onnx")
    title = [f"Figure 7: the best block found, {block.hash}"]
    note = config.small(config.images_note)
    save(figure7(block, title_lines=title, scale_note=note), folder / "figure7")
    (measured,) = run["result"]["measured"].values()
    result = {"of": stage, "hash": block.hash, "test": measured["test"]}
    outputs = ["architecture.json", "model.pt", "model.onnx", "figure7.png", "figure7.svg"]
    record.write(config, "export", result, seconds=0, outputs=outputs)
    tracking.send(folder)
    print(f"see {folder}: its accuracy on the test images is {100 * measured['test']:.2f}%")
