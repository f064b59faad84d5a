"""Trainings of each kind that take a second, for the tests."""

from random import Random

import torch
import yaml

from ghn_pipeline.data.images import Images, Splits, stream
from ghn_pipeline.model.network import Network, Trained
from ghn_pipeline.model.oneshot import OneShot
from ghn_pipeline.settings.config import Config, merged, validate
from ghn_pipeline.settings.sections import Recipe
from ghn_pipeline.spaces.anytime import Anytime
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.system.compute import precision
from ghn_pipeline.training.anytime import anytime_training
from ghn_pipeline.training.distributed import Team
from ghn_pipeline.training.finalist import Finalist, finalist_training
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.ghn import build, examples, sampler, search_training
from ghn_pipeline.training.sgd import sgd_training

KINDS = ("ghn", "oneshot", "sgd", "anytime")
STEPS = 12  # of every training here: three epochs of four batches

SETTINGS = """
images: {train: 32, validation: 16, resolution: 8, padding: 1}
training: {epochs: 3, batch: 8, halve_at: [1, 2]}
ghn: {nodes: 3, passes: 1, embedding: 8}
sgd: {epochs: 3, batch: 8}
evaluation: {batch: 8, batches: 2}
finalists: {batch: 8, norm_batch: 8}
correlation: {steps: [4, 7, 12]}
proxies: {batch: 8}
"""


WITH_EXITS = """
space: {name: anytime, exits: 3, operations: [dense_conv_1x1, dense_conv_3x3]}
network: {blocks: 3, reductions: [2, 3]}
evaluation: {measure: area, budgets: [0.001, 0.1]}
correlation: {drawn: 12}
anytime: {epochs: 3, batch: 8, divide_at: [1, 2]}
"""


def small_config(root, changes=None) -> Config:
    """The smoke preset, yet smaller."""
    settings = {}
    for name in ("params.yaml", "presets/smoke.yaml"):
        settings = merged(settings, yaml.safe_load((root / name).read_text(encoding="utf-8")))
    return validate(merged(merged(settings, yaml.safe_load(SETTINGS)), changes or {}), "small")


def small_space(config: Config) -> Classification:
    """The search space of the configuration, spelt out."""
    return Classification(
        tuple(config.space.operations), config.space.max_inputs, 2, 4, (2,), 1, classes=10
    )


def noise_images(config: Config) -> Splits:
    """Random images in place of CIFAR-10; the class shows in their brightness."""
    generator = torch.Generator().manual_seed(0)

    def images(n: int) -> Images:
        labels = torch.randint(10, (n,), generator=generator)
        side = config.images.resolution
        noise = torch.randint(120, (n, 3, side, side), generator=generator)
        return Images((noise + 10 * labels[:, None, None, None]).to(torch.uint8), labels)

    train, validation, test = (images(n) for n in (config.images.train, 16, 4))
    pixels = train.pixels.double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)
    return Splits(train, validation, test, mean.float(), std.float())


def small_training(kind: str, root, changes=None) -> Training:
    """An untrained GHN, one-shot model or single network with all that its training needs."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if kind == "anytime":
        return small_anytime(small_config(root, merged(yaml.safe_load(WITH_EXITS), changes or {})))
    config = small_config(root, changes)
    space, splits = small_space(config), noise_images(config)
    draw = sampler(space, 3, config.seeds.training_architectures, forbidden=())
    if kind == "sgd":
        network = Network(space.modules(space.sample(Random(5), 3)), config.images.resolution)
        model = Trained(network, stream(0, "sgd"))
        return sgd_training(
            "sgd",
            model,
            splits,
            config.sgd,
            config.evaluation,
            padding=config.images.padding,
            seed=config.seeds.data_order,
            measured_at=config.correlation.steps,
        )
    if kind == "oneshot":
        model, schedule = OneShot(examples(space, 3), stream(0, "oneshot")), config.oneshot
    else:
        model, schedule = build(space, config.ghn, 0), config.ghn
    return search_training(
        kind,
        model,
        draw,
        space,
        splits,
        schedule,
        resolution=config.images.resolution,
        padding=config.images.padding,
        order=config.seeds.data_order,
    )


def small_anytime(config: Config) -> Training:
    """A network with three exits, to be trained as section 7.3 says."""
    space = Anytime(tuple(config.space.operations), 2, 3, 3, 4, (2, 3), 1, classes=10)
    modules = space.modules(space.sample(Random(0), 3))
    network = Network(modules, config.images.resolution)
    model = Trained(network, stream(0, "anytime"))
    return anytime_training(
        "anytime/x",
        model,
        noise_images(config),
        config.anytime,
        padding=config.images.padding,
        seed=f"{config.seeds.data_order}/anytime/x",
        evaluation_batch=config.evaluation.batch,
    )


def small_finalist_training(
    name: str,
    model: Finalist,
    splits: Splits,
    config: Config,
    recipe: Recipe,
    team: Team,
) -> Training:
    """The training of a finalist with what the configuration says beside its recipe."""
    return finalist_training(
        name,
        model,
        splits,
        recipe,
        team,
        padding=config.images.padding,
        seed=f"{config.seeds.data_order}/{name}",
        dtype=precision(config.compute.precision, team.device),
        evaluation_batch=config.evaluation.batch,
    )


def content(path) -> dict:
    """What a checkpoint holds, less what is measured by the clock."""
    state = torch.load(path, weights_only=True)
    del state["log"]["seconds"]
    for measured in state["log"]["observed"].values():
        del measured["seconds"]
    return state


def same(a, b) -> bool:
    """Whether two nests of tensors, numbers and text agree to the last bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
