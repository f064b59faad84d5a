"""A GHN with the search space whose blocks it weighs: to generate weights, and to rank."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ghn_pipeline.data.images import Images, Splits
from ghn_pipeline.export import Generated
from ghn_pipeline.library import trained
from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import IMAGE, Network, Trained
from ghn_pipeline.ranking.measures import MEASURES, Measure
from ghn_pipeline.ranking.scoring import Score, Scorer
from ghn_pipeline.ranking.weights import scorer
from ghn_pipeline.settings.sections import Design
from ghn_pipeline.spaces.space import Space
from ghn_pipeline.system.compute import devices
from ghn_pipeline.system.errors import UserError, did_you_mean
from ghn_pipeline.system.progress import Progress
from ghn_pipeline.system.schema import faults
from ghn_pipeline.training.ghn import build

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: Blocks that are scored together, so that their weights are generated together.
TOGETHER = 8
#: Seconds between lines of progress in a log.
LOG_SECONDS = 10.0


class GHN(nn.Module):
    """A graph hypernetwork with the search space whose blocks it weighs (section 4).

    Use `GHN.from_pretrained` for a trained one, and `GHN.of` for an untrained one.

    Args:
        space: the search space.
        design: the design of the hypernetwork.
        model: the hypernetwork, a function from networks to the weights of each.
        resolution: side of the images that it is trained on, in pixels.
        mean: mean of each channel of these images, [3], with pixels from 0 to 1.
        std: standard deviation of each channel of these images, [3].
        card: facts about its training, for people.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        space: Space,
        design: Design,
        model: nn.Module,
        *,
        resolution: int,
        mean: Tensor,
        std: Tensor,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.space, self.design, self.model = space, design, model
        self.resolution, self.card = resolution, card or {}
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def of(
        cls,
        space: Space,
        *,
        resolution: int = 32,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        seed: int = 0,
        **design: Any,
    ) -> "GHN":
        """Return an untrained GHN for a search space.

        Args:
            space: the search space.
            resolution: side of the images that it will be trained on, in pixels.
            mean: mean of each channel of these images, with pixels from 0 to 1.
            std: standard deviation of each channel of these images.
            seed: seed of its initial parameters.
            design: settings of the section `ghn` of params.yaml: passes, scheme, share_parameters,
                pass_embeddings, embedding, message_hidden, hypernetwork_hidden, positions. One that
                is not given is that of the trained GHN for this space; if there is none, all are
                needed.

        Raises:
            UserError: a setting is unknown or out of its range.
        """
        known = like.design.model_dump() if (like := trained.like(space)) else {}
        try:
            chosen = Design.model_validate({**known, **design})
        except ValidationError as error:
            raise UserError(f"no GHN has this design: {faults(error)}") from error
        return cls(
            space,
            chosen,
            build(space, chosen, seed),
            resolution=resolution,
            mean=torch.tensor(mean),
            std=torch.tensor(std),
        )

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "GHN":
        """Return a trained GHN, on the CPU.

        Args:
            name: the name of one that comes with the package (`trained.names()`), or the folder of
                one, such as results/quick/ghn/default.

        Raises:
            UserError: there is none of this name, or its files are damaged.
        """
        content, space, state = trained.read(trained.folder(name))
        ghn = cls(
            space,
            content.design,
            build(space, content.design, seed=0),
            resolution=content.resolution,
            mean=torch.tensor(content.mean),
            std=torch.tensor(content.std),
            card=content.card,
        )
        trained.fill(ghn.model, state, trained.folder(name))
        return ghn.eval()

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the files that `from_pretrained` reads.

        Args:
            folder: the folder of the files, made if it is missing.
            half: whether to write weights in half precision, in half the space.

        Raises:
            UserError: a file cannot be written.
        """
        trained.write(
            Path(folder),
            self.model,
            half=half,
            space=self.space,
            design=self.design,
            resolution=self.resolution,
            mean=self.mean.tolist(),
            std=self.std.tolist(),
            card=self.card,
        )

    def forward(self, blocks: Sequence[Block]) -> list[dict[str, Tensor]]:
        """Return the weights of the networks that stack these blocks, by name, for training."""
        weights: list[dict[str, Tensor]] = self.model([self.network(b) for b in blocks])
        return weights

    def network(self, block: Block, resolution: int | None = None) -> Network:
        """Return the network that stacks a block of the search space.

        Args:
            block: the block.
            resolution: side of the images in pixels, if not the GHN's own.

        Raises:
            UserError: it is no block, or one of another space.
        """
        if not isinstance(block, Block):
            raise UserError(
                f"a GHN weighs blocks of its search space, and no {type(block).__name__}: write "
                "the network's graph as [[operation, [inputs]], ...] and read it by space.read."
            )
        read = self.space.read(block.to_json())
        return Network(self.space.modules(read), resolution or self.resolution)

    @torch.no_grad()
    def weights(self, block: Block) -> dict[str, Tensor]:
        """Return the generated weights of the network that stacks a block, by name.

        Raises:
            UserError: it is no block of this space.
        """
        return self.forward([block])[0]

    def module(self, block: Block) -> Generated:
        """Return the network that stacks a block, with the generated weights as its parameters.

        It takes pixels [B, 3, R, R] from 0 to 1. In `train()` its batch norms normalise by the
        batch, as in the training of the GHN. Call `recalibrate` before `eval()`.

        Raises:
            UserError: it is no block of this space.
        """
        model = Trained.of(self.network(block), self.weights(block)).to(self.mean.device)
        return Generated(model, self.mean, self.std, self.space, block)

    def rank(
        self,
        blocks: Sequence[Block],
        images: "Tensor | np.ndarray",
        labels: "Tensor | np.ndarray",
        *,
        measure: str = "likelihood",
        batch: int = 250,
        workers: int = 0,
        **settings: Any,
    ) -> "pd.DataFrame":
        """Rank blocks by how well their networks with generated weights classify images (Eq. 2).

        Args:
            blocks: blocks of the search space; those that compute the same are scored once.
            images: pixels [N, 3, R, R], bytes or numbers from 0 to 1.
            labels: the classes [N] of the images.
            measure: "accuracy", "likelihood", or another measure of `evaluation.measure`.
            batch: the most images that are normalised together.
            workers: threads that score at once; 0 for one on each core or accelerator.
            settings: further settings of the measure, such as `flow`.

        Returns:
            A row for each block, the best first, with an index that counts from 1: the `block`, its
            `hash`, the measures, and the `parameters` and `multiply_adds` of its network.

        Raises:
            UserError: a block is of another space, the images or labels have another form, or a
                setting is unknown.
        """
        import pandas as pd  # loads in half a second

        if not blocks:
            raise UserError("there are no blocks to rank")
        pixels, classes = _checked(images, labels, self.space.classes)
        side, count = pixels.shape[-1], math.ceil(len(pixels) / batch)
        even = math.ceil(len(pixels) / count)
        judged = _measure(measure, {"batch": even, "batches": count, **settings})
        networks = {block: self.network(block, side) for block in blocks}
        found = self._score(list(networks), Images(pixels, classes), judged, side, workers)
        rows = [
            {
                "block": block,
                "hash": block.hash,
                **found[block.hash].values,
                "parameters": networks[block].parameters,
                "multiply_adds": networks[block].multiply_adds,
            }
            for block in blocks
        ]
        ranked = pd.DataFrame(rows).sort_values(measure, ascending=False, kind="stable")
        return ranked.set_axis(pd.RangeIndex(1, len(rows) + 1, name="rank"))

    def _score(
        self, blocks: list[Block], images: Images, judged: Measure, side: int, workers: int
    ) -> dict[str, Score]:
        """Return the score of each hash, computed by several threads."""
        first = list({block.hash: block for block in reversed(blocks)}.values())
        groups = [first[i : i + TOGETHER] for i in range(0, len(first), TOGETHER)]
        places = devices(self.mean.device, workers)[: len(groups)]
        scorers = [self._scorer(images, judged, side, place) for place in places]
        progress = Progress("ranking", len(first), 0, LOG_SECONDS)
        found: dict[str, Score] = {}
        with _threads(len(places)) as pool:
            # group i is scored on place i of as many as there are
            asked = ((scorers[i % len(scorers)], group) for i, group in enumerate(groups))
            for scores in pool.map(lambda one: one[0](one[1]), asked):
                found |= {score.hash: score for score in scores}
                progress.at(len(found), lambda: scores[-1].shown)  # noqa: B023
        progress.close()
        return found

    def _scorer(self, images: Images, judged: Measure, side: int, place: torch.device) -> Scorer:
        model = self.model if place == self.mean.device else deepcopy(self.model).to(place)
        there = images.to(place)
        splits = Splits(there, there, there, self.mean.to(place), self.std.to(place))
        return scorer(model, self.space, splits, judged, side)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Provide threads that take one core each, so that their number changes no bit of a result."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _measure(name: str, settings: dict[str, Any]) -> Measure:
    """Return a measure with its settings.

    Raises:
        UserError: there is no such measure, or a setting is unknown or out of its range.
    """
    if name not in MEASURES:
        raise UserError(f"there is no measure {name!r}{did_you_mean(name, MEASURES)}")
    try:
        return MEASURES[name].model_validate({"measure": name, "together": TOGETHER, **settings})
    except ValidationError as error:
        raise UserError(
            f"the measure {name} cannot have these settings: {faults(error)}"
        ) from error


def _checked(
    images: "Tensor | np.ndarray", labels: "Tensor | np.ndarray", classes: int
) -> tuple[Tensor, Tensor]:
    """Return pixels from 0 to 255 and labels as tensors.

    Raises:
        UserError: they have another form.
    """
    pixels, named = torch.as_tensor(images), torch.as_tensor(labels)
    shape = list(pixels.shape)
    if len(shape) != 4 or shape[1] != IMAGE.channels or shape[2] != shape[3] or not shape[0]:
        raise UserError(f"images must have the shape [N, {IMAGE.channels}, R, R], not {shape}")
    if list(named.shape) != shape[:1] or named.is_floating_point():
        raise UserError(f"labels must be {shape[0]} whole numbers, one for each image")
    if named.min() < 0 or named.max() >= classes:
        raise UserError(f"labels must be from 0 to {classes - 1}: the space has {classes} classes")
    if pixels.dtype == torch.uint8:
        return pixels, named.long()
    if not pixels.is_floating_point() or pixels.min() < 0 or pixels.max() > 1:
        raise UserError("images must be bytes, or numbers from 0 to 1")
    return 255 * pixels.float(), named.long()
