"""The training of GHNs and one-shot models, with new architectures at each step (4.5, 5.3, 7.2)."""

from collections.abc import Callable, Container, Iterator
from random import Random

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ghn_pipeline.data.images import Splits
from ghn_pipeline.model.ghn import GHN
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, run_exits
from ghn_pipeline.settings.sections import Design, Schedule
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.errors import UserError
from ghn_pipeline.training.batches import summed_loss, training_batch
from ghn_pipeline.training.fit import Training
from ghn_pipeline.training.optimizers import adam
from ghn_pipeline.training.schedule import halved, rising

#: The block to train at a step.
Sampler = Callable[[int], Block]


def examples(space: Space, nodes: int) -> list[Network]:
    """Return networks that together use every weight that any network of `nodes` nodes uses."""
    return [Network(space.modules(block), resolution=1) for block in space.examples(nodes)]


def build(space: Space, design: Design, seed: int) -> GHN:
    """Make the untrained GHN of this design; `seed` determines every number in it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GHN(
            space.node_types,
            examples(space, 1),
            passes=design.passes,
            scheme=design.scheme,
            share_parameters=design.share_parameters,
            pass_embeddings=design.pass_embeddings,
            size=design.embedding,
            message_hidden=design.message_hidden,
            hidden=design.hypernetwork_hidden,
            positions=design.positions,
            scales=space.scales,
            exits=space.exits > 0,
        )


def running_mean(model: nn.Module, decay: float) -> AveragedModel:
    """Return a model that holds an exponential running mean of the weights of `model`."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def sampler(
    space: Space, nodes: int, seed: int | str, forbidden: Container[str], *, fewer: bool = False
) -> Sampler:
    """Return a function from a step to its random block, whose hash is not in `forbidden`.

    A block has `nodes` computed nodes, or with `fewer` a random number up to `nodes` (section 7.2,
    anytime). The test architectures "have not been seen by the GHN during training" (section 5.3).
    """

    def draw(step: int) -> Block:
        rng = Random(f"{seed}/{step}")
        for _ in range(1000):
            if (block := space.sample(rng, nodes, fewer=fewer)).hash not in forbidden:
                return block
        raise UserError(
            f"1000 random blocks of {nodes} nodes are all test architectures or in the selection, "
            "which training must not see. Use more nodes or operations, or lower correlation.drawn "
            "or correlation.selection."
        )

    return draw


def search_training(
    name: str,
    model: nn.Module,
    draw: Sampler,
    space: Space,
    splits: Splits,
    schedule: Schedule,
    *,
    resolution: int,
    padding: int,
    order: int | str,
) -> Training:
    """Train a GHN or a one-shot model on random architectures.

    Args:
        name: the name in messages.
        model: a GHN or a one-shot model, a function from networks to the weights of each.
        draw: function from a step to its architecture.
        space: the search space, which stacks blocks into networks.
        splits: the images.
        schedule: epochs, batch, rate, warm-up, clip and running mean.
        resolution: side of the images in pixels.
        padding: padding of the crops in pixels.
        order: seed of the order of the images and of their crops.
    """
    steps_per_epoch = len(splits.train) // schedule.batch

    def losses(step: int) -> Iterator[Tensor]:
        network = Network(space.modules(draw(step)), resolution)
        images, labels = training_batch(
            splits, step, batch=schedule.batch, padding=padding, seed=order
        )
        # Eq. 16 to 18: the gradient reaches the GHN through the weights that it generates
        yield summed_loss(run_exits(network, model([network])[0], images), labels)

    return Training(
        name,
        model,
        adam(model.parameters(), schedule.learning_rate),
        losses,
        rising(halved(schedule.learning_rate, schedule.halve_at, steps_per_epoch), schedule.warmup),
        schedule.epochs * steps_per_epoch,
        schedule.clip,
        describe=lambda step: draw(step).to_json(),
        averaged=running_mean(model, schedule.average) if schedule.average else None,
    )
