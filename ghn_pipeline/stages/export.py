"""The export of the winner for others to use (section 7.5.1)."""

from ghn_pipeline.pipeline import costs
from ghn_pipeline.pipeline.stage import result_folder
from ghn_pipeline.stages.shared import Job, Shown, stage


@stage(
    "export",
    result="Export",
    reads=("data", "winner", "finalists/best/{finalists.seeds[0]}: model.pt run.json"),
    settings=("scale",),
    writes=("architecture.json", "model.pt", "model.onnx", "figure7.svg", "figure7.png"),
    memory_mb=3000,
    minutes=20,
    chapters=("architecture_search",),
    shown={"figure7.svg": Shown("figure7.rst", "Figure 7", "the best block")},
    # two files with weights, and MLflow's copies of both
    costs=lambda config, _: costs.Costs(
        2 * 2 * costs.FLOAT * costs.mean_size(costs.networks(config))[1]
    ),
)
def export(job: Job) -> None:
    """Export the winner as an architecture, a drawing, trained weights and ONNX."""
    import torch

    from ghn_pipeline import export as files
    from ghn_pipeline.data.images import stream
    from ghn_pipeline.model.network import Network
    from ghn_pipeline.pipeline import record, tracking
    from ghn_pipeline.pipeline.build import finalist_recipe, images_of
    from ghn_pipeline.pipeline.results import exported, load_weights, trained_on, winner
    from ghn_pipeline.pipeline.spaces import paper_space
    from ghn_pipeline.report.figure import save
    from ghn_pipeline.report.paper.figure7 import figure7
    from ghn_pipeline.training.finalist import Finalist

    config = job.config
    best, block, space = exported(config), winner(config), paper_space(config)
    run = trained_on(config, best, block)
    network = Network(space.modules(block), config.images.resolution)
    # the numbers of nodes in the drawing are those in the names of the weights
    stacked = {module.block for module in network.modules if module.number}
    shown = stacked.pop() if len(stacked) == 1 else block
    model = Finalist(network, finalist_recipe(config, "best"), stream(0))
    load_weights(config, best, model)
    folder, images = result_folder(config, "export"), images_of(config, torch.device("cpu"))
    files.save(folder, space, shown, model.trained, images.mean, images.std)
    files.write_onnx(files.load(folder), folder / "model.onnx")
    title = [f"Figure 7: the best block found, {block.hash}"]
    note = config.small(config.images_note)
    save(figure7(shown, title_lines=title, scale_note=note), folder / "figure7")
    (measured,) = run["result"]["measured"].values()
    result = {"of": best, "hash": block.hash, "test": measured["test"]}
    outputs = ["architecture.json", "model.pt", "model.onnx", "figure7.png", "figure7.svg"]
    record.write(config, "export", result, seconds=0, outputs=outputs)
    tracking.done(folder)
    print(f"see {folder}: its accuracy on the test images is {100 * measured['test']:.2f}%")
