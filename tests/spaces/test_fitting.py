"""The mobile setting of section 5.1.2, against torch's own count and a scan over all widths."""

from dataclasses import replace
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ghn_pipeline.model.graph import Block
from ghn_pipeline.model.network import Network, Trained, batch_statistics, run
from ghn_pipeline.spaces.classification import Classification
from ghn_pipeline.spaces.fitting import fitted
from ghn_pipeline.spaces.known import SPACES
from ghn_pipeline.system.errors import UserError

# section 5.1.2: "an initial convolution layer of stride 2 before stacking 14 blocks with scale
# reduction at blocks 1, 2, 6 and 10", "under 600M FLOPS"; 7.3: 224 × 224
OPERATIONS = tuple(dict.fromkeys(op for space in SPACES.values() for op in space.known))
SPACE = Classification(OPERATIONS, 2, 14, 1, (1, 2, 6, 10), 1, 1000, stem_stride=2)
RESOLUTION, LIMIT = 224, 600_000_000


def block_of(seed: int) -> Block:
    return SPACE.sample(Random(seed), 17)


def network_of(space: Classification, block: Block, channels: int, side: int) -> Network:
    return Network(replace(space, channels=channels).modules(block), side)


@pytest.mark.parametrize("seed", range(20))
def test_one_channel_more_would_pass_the_limit(seed: int) -> None:
    block = block_of(seed)
    space = fitted(SPACE, block, RESOLUTION, LIMIT, "F")
    assert replace(space, channels=SPACE.channels) == SPACE
    assert network_of(space, block, space.channels, RESOLUTION).multiply_adds <= LIMIT
    assert network_of(space, block, space.channels + 1, RESOLUTION).multiply_adds > LIMIT


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [32, 64])
def test_the_width_is_the_one_that_a_scan_finds(seed: int, side: int) -> None:
    small = replace(SPACE, blocks=3, reductions=(1, 2), classes=10)
    block = SPACE.sample(Random(seed), 4)
    counts = [network_of(small, block, c, side).multiply_adds for c in range(1, 40)]
    assert counts == sorted(set(counts))
    # limits between the counts, and each count itself, which is still allowed
    for limit in [*counts[:30], *(count + 1 for count in counts[:30]), counts[30] - 1]:
        most = sum(count <= limit for count in counts)
        assert fitted(small, block, side, limit, "F").channels == most


def test_a_limit_that_no_width_keeps() -> None:
    block = block_of(0)
    least = network_of(SPACE, block, 1, RESOLUTION).multiply_adds
    assert fitted(SPACE, block, RESOLUTION, least, "F").channels == 1
    with pytest.raises(
        UserError, match=f"takes {least:,} multiply-adds .* 224×224 .* 1 channel, and F is"
    ):
        fitted(SPACE, block, RESOLUTION, least - 1, "F")


@pytest.mark.parametrize("seed", [0, 1])
def test_torch_counts_the_same_in_a_run(seed: int) -> None:
    block = block_of(seed)
    network = Network(fitted(SPACE, block, RESOLUTION, LIMIT, "F").modules(block), RESOLUTION)
    sides: dict[int, set[int]] = {}

    def note(name: str, x: Tensor) -> Tensor:
        sides.setdefault(int(name[:2]), set()).add(x.shape[-1])
        return x

    with torch.device("meta"):
        weights = {s.name: torch.empty(s.shape) for s in network.specs}
        with FlopCounterMode(display=False) as counter:
            logits = run(network, weights, torch.empty(1, 3, RESOLUTION, RESOLUTION), note)
    assert logits.shape == (1, 1000)
    assert 2 * network.multiply_adds == counter.get_total_flops()
    # 112 after the stem, then halved at blocks 1, 2, 6 and 10
    expected = [112, 56, *[28] * 4, *[14] * 4, *[7] * 5]
    assert sides == {m: {side} for m, side in enumerate(expected)}


def test_the_first_blocks_read_the_strided_stem() -> None:
    network = network_of(SPACE, block_of(0), 2, 64)
    model = Trained(network, torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen: dict[str, Tensor] = {}

    def note(name: str, x: Tensor) -> Tensor:
        seen[name] = x
        return batch_statistics(name, x)

    run(network, model.weights, images, note)
    weights = model.weights
    stem = F.conv2d(F.pad(images, (1,) * 4), weights["00/00/stem/stem"])[..., ::2, ::2]
    torch.testing.assert_close(seen["00/00/stem/norm0"], stem)
    # block 1 reads it twice at stride 2, block 2 at stride 4
    normed = F.relu(batch_statistics("", stem))
    for node, every in (("01/00/input_1", 2), ("01/01/input_2", 2), ("02/01/input_2", 4)):
        weight = weights[f"{node}/pointwise/00/00"]
        expected = torch.einsum("oi,bihw->bohw", weight[..., 0, 0], normed[..., ::every, ::every])
        torch.testing.assert_close(seen[f"{node}/norm0"], expected, rtol=1e-4, atol=1e-5)
