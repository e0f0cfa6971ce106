"""Shrunk networks put out what masked ones do: by hand, and at random over the zoo."""

import copy
import functools
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from pruning import masks as mask_tools
from pruning.coupling.choosing import group_masks
from pruning.coupling.groups import Groups, channels
from pruning.coupling.scoring import whole
from pruning.errors import PruningError
from pruning.macs import macs
from pruning.prunables import prunable
from pruning.shrinking.rebuild import apply_plan, keep
from pruning.shrinking.shrink_network import shrink, shrink_plan
from tests.pruning import channel_zoo as zoo


@functools.cache
def groups_of(name: str) -> Groups:
    return channels(zoo.build(name), zoo.example(name))


def norms(model: nn.Module) -> dict[str, Tensor]:
    """Return each filter's L1 norm."""
    return {
        name: weight.detach().abs().flatten(1).sum(1).reshape(-1, *[1] * (weight.ndim - 1))
        for name, weight in prunable(model).items()
    }


def random_masks(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return masks of random rows, columns, single weights and biases; no layer loses all."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, parameter in model.named_parameters():
        mask = torch.ones(parameter.shape, dtype=torch.bool)
        for dim in range(mask.ndim):
            share = (0.4, 0.2, 0.0)[min(dim, 2)]
            lines = torch.rand(mask.shape[dim], generator=generator) >= share
            lines[int(torch.randint(len(lines), (), generator=generator))] = True
            mask &= lines.reshape([-1 if d == dim else 1 for d in range(mask.ndim)])
        if bool(mask.any()):
            found[name] = mask
    return found


def check_equal(model: nn.Module, shrunk: nn.Module, masks: dict[str, Tensor], seed: int) -> None:
    """Compare with a masked copy on inputs that `shrink` has not seen."""
    masked = copy.deepcopy(model)
    mask_tools.apply(masked, masks)
    torch.manual_seed(seed)
    name = next(key for key, (kind, _) in zoo.ZOO.items() if type(model) is kind)
    inputs = [torch.randn_like(x) if x.is_floating_point() else x for x in zoo.example(name)]
    with torch.no_grad():
        expected, actual = tree_leaves(masked(*inputs)), tree_leaves(shrunk(*inputs))
    for left, right in zip(expected, actual, strict=True):
        torch.testing.assert_close(right, left, rtol=0, atol=1e-10 * float(left.abs().max()))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", zoo.ZOO)
def test_any_masks_shrink_to_the_same_output(name, seed):
    model = zoo.build(name, seed=seed)
    masks = random_masks(model, seed)
    if seed % 2:
        masks = whole(masks, groups_of(name))
    if any(masks[layer].ndim > 1 for layer in mask_tools.collapsed(masks)):
        # Rows and columns together may take a whole layer.
        with pytest.raises(PruningError, match="layer collapse"):
            shrink(model, masks, zoo.example(name), groups=groups_of(name))
        return
    shrunk = shrink(model, masks, zoo.example(name), groups=groups_of(name))
    assert count(shrunk) <= count(model)
    check_equal(model, shrunk, masks, seed)


AT_HALF = {
    "residual": (3343, 1056),
    "padded_shortcut": (999, 363),
    "concatenated": (800, 473),
    "pre_activation": (776, 270),
    "dense": (690, 290),
    "depthwise": (409, 164),
    "grouped": (771, 387),
    "upsampler": (1384, 491),
    "shuffled": (747, 355),
    "group_normed": (1263, 417),
    "recurrent": (2559, 885),
    "last_state": (525, 223),
    "transformer": (4515, 2651),
    "own_attention": (794, 414),
    "shared": (254, 87),
    "written_down": (591, 299),
    "unknown": (167, 92),
}


@pytest.mark.parametrize("name", AT_HALF)
def test_half_of_all_groups_leave(name):
    model = zoo.build(name)
    masks = group_masks(norms(model), groups_of(name), 0.5)
    plan = shrink_plan(model, masks, zoo.example(name), groups=groups_of(name))
    shrunk = apply_plan(model, plan, masks=masks)
    assert (count(model), count(shrunk)) == AT_HALF[name]
    # Nothing was masked in vain, but where only a trial tells that a forward holds a size.
    if name != "written_down":
        assert all(bool(mask.all()) for mask in keep(plan, masks).values())
    check_equal(model, shrunk, masks, 9)


def test_the_sizes_of_a_shrunk_residual_network():
    model = zoo.build("residual")
    masks = group_masks(norms(model), groups_of("residual"), 0.5)
    shrunk = shrink(model, masks, zoo.example("residual"))
    assert type(shrunk) is type(model)
    sizes = {name: tuple(p.shape) for name, p in shrunk.named_parameters() if p.ndim > 1}
    assert sizes == {
        **{"stem.weight": (4, 3, 3, 3), "a.0.weight": (3, 4, 3, 3), "b.0.weight": (6, 3, 3, 3)},
        **{"down.weight": (6, 4, 1, 1), "c.0.weight": (6, 6, 3, 3), "fc.weight": (5, 6 * 9)},
    }
    assert (shrunk.fc.in_features, shrunk.down.in_channels, shrunk.down.out_channels) == (54, 4, 6)
    assert shrunk.b[1].num_features == 6
    assert len(shrunk.b[1].running_mean) == 6


def rows(model: nn.Module, name: str, gone: list[int]) -> dict[str, Tensor]:
    """Return the mask that takes whole filters of one layer."""
    mask = torch.ones_like(model.get_parameter(name), dtype=torch.bool)
    mask[gone] = False
    return {name: mask}


def test_a_masked_filter_that_still_puts_out_a_constant_stays():
    model, example = zoo.build("residual"), zoo.example("residual")
    masks = rows(model, "a.0.weight", [1, 4])
    assert count(shrink(model, masks, example)) == count(model)
    extended = whole(masks, groups_of("residual"))
    assert extended.keys() == {"a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias"}
    assert all((~extended[name]).nonzero().unique().tolist() == [1, 4] for name in ("a.1.bias",))
    assert shrink(model, extended, example).a[0].out_channels == 4


def test_without_a_bias_or_a_norm_filters_alone_do():
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)).double()
    shrunk = shrink(model, rows(model, "0.weight", [0, 3]), torch.randn(2, 4).double())
    assert [tuple(p.shape) for p in shrunk.parameters()] == [(4, 4), (2, 4), (2,)]


def test_a_residual_partner_that_stays_keeps_the_channel():
    model, example = zoo.build("residual"), zoo.example("residual")
    masks = rows(model, "b.0.weight", [2]) | rows(model, "down.weight", [2])
    extended = whole(masks, groups_of("residual"))
    assert extended.keys() == masks.keys()  # c.0 still makes channel 2
    masks |= rows(model, "c.0.weight", [2])
    extended = whole(masks, groups_of("residual"))
    assert shrink(model, extended, example).fc.in_features == 11 * 9


def test_channels_that_nothing_reads_go_whatever_they_hold():
    model, example = zoo.build("residual"), zoo.example("residual")
    mask = torch.ones_like(model.b[0].weight, dtype=torch.bool)
    mask[:, [0, 5]] = False
    shrunk = shrink(model, {"b.0.weight": mask}, example)
    assert shrunk.a[0].out_channels == 4
    check_equal(model, shrunk, {"b.0.weight": mask}, 3)


def test_channels_that_only_a_zero_gates_go():
    """The gate's own filter is not masked: what it multiplies is zero."""
    model, example = zoo.build("depthwise"), zoo.example("depthwise")
    masks = rows(model, "expand.weight", [3]) | rows(model, "depth.weight", [3])
    extended = whole(masks, groups_of("depthwise"))
    shrunk = shrink(model, extended, example)
    assert (shrunk.excite.out_channels, shrunk.depth.groups) == (11, 11)


def test_slimming_selects_channels_before_a_norm():
    """BatchNorm scales alone are masked, as network slimming does: the stream stays whole."""
    model, example = zoo.build("pre_activation"), zoo.example("pre_activation")
    gone = torch.tensor([True, False] * 4)
    masks = {"bn1.weight": gone, "bn1.bias": gone}
    shrunk = shrink(model, masks, example)
    assert (shrunk.conv1.in_channels, shrunk.stem.out_channels) == (4, 8)
    assert isinstance(shrunk.bn1, nn.BatchNorm2d)
    assert shrunk.bn1.num_features == 4
    assert shrunk.state_dict().keys() == model.state_dict().keys()
    check_equal(model, shrunk, masks, 2)


def test_heads_leave_with_their_queries_keys_and_values():
    model, example = zoo.build("transformer"), zoo.example("transformer")
    name = "encoder.layers.0.self_attn.in_proj_weight"
    masks = whole(rows(model, name, [*range(32, 36), *range(40, 48)]), groups_of("transformer"))
    attention = shrink(model, masks, example).encoder.layers[0].self_attn
    assert isinstance(attention, nn.MultiheadAttention)
    assert (attention.num_heads, attention.in_proj_weight.shape[0]) == (1, 12)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_over_fewer_heads_takes_all_that_torch_s_takes(batched, batch_first):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(12, 3, batch_first=batch_first, kdim=5, vdim=7).double().eval()
    x, k, v = (torch.randn(2, 4, size).double() for size in (12, 5, 7))
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[:8] = True
    wide = mask[:, :1]
    gone = {
        f"{part}_proj_weight": wide.expand(12, size)
        for part, size in zip("qkv", (12, 5, 7), strict=True)
    }
    gone["in_proj_bias"] = wide.reshape(-1).repeat(3)
    inputs = (x, k, v) if batch_first else tuple(t.transpose(0, 1) for t in (x, k, v))
    if not batched:
        inputs = (x[0], k[0], v[0])
    keep_padding = torch.tensor([[0.0, 0.0, -torch.inf, 0.0]] * 2).double()
    extra = {
        "attn_mask": torch.randn(4, 4).double(),
        "key_padding_mask": keep_padding if batched else keep_padding[0],
        "need_weights": False,
    }
    call = dict(zip(("query", "key", "value"), inputs, strict=True)) | extra
    shrunk = shrink(model, gone, call)
    assert shrunk.num_heads == 2
    mask_tools.apply(model, gone)
    forbidden = torch.zeros(4, 4, dtype=torch.bool)
    forbidden[0, 1] = forbidden[3, 2] = True
    for options in ({}, {"attn_mask": None}, {"attn_mask": forbidden, "key_padding_mask": None}):
        expected, actual = model(**(call | options)), shrunk(**(call | options))
        torch.testing.assert_close(actual[0], expected[0])
    with_weights = call | {"need_weights": True, "average_attn_weights": False}
    weights = model(**with_weights)[1]
    torch.testing.assert_close(
        shrunk(**with_weights)[1], weights[:, :2] if batched else weights[:2]
    )


def test_a_weight_cut_at_numbers_of_the_forward_stays_whole_and_one_cut_in_halves_does_not():
    class Net(nn.Module):
        def __init__(self, by_number: bool) -> None:
            super().__init__()
            self.both, self.out = nn.Parameter(torch.randn(12, 4)), nn.Linear(6, 2)
            self.by_number = by_number

        def forward(self, x):
            halves = (self.both[:6], self.both[6:]) if self.by_number else self.both.chunk(2)
            value, gate = (functional.linear(x, half) for half in halves)
            return self.out(value * torch.sigmoid(gate))

    mask = torch.ones(12, 4, dtype=torch.bool)
    mask[[1, 2, 7, 8]] = False
    for by_number, rows_left in ((True, 12), (False, 8)):
        shrunk = shrink(Net(by_number).double(), {"both": mask}, torch.randn(3, 4).double())
        assert len(shrunk.both) == rows_left


def test_a_tied_weight_is_masked_under_any_of_its_names():
    model, example = zoo.build("shared"), zoo.example("shared")
    mask = torch.ones(9, 8, dtype=torch.bool)
    mask[:, 2] = False
    for other in ({}, {"embedding.weight": torch.ones(9, 8, dtype=torch.bool)}):
        masks = {"decoder.weight": mask} | other
        full = whole(masks, groups_of("shared")) | rows(model, "mix.weight", [2])
        masks = full | {"mix.bias": torch.arange(8) != 2} | rows(model, "widen.weight", [2])
        masks |= {"widen.bias": torch.arange(8) != 2}
        shrunk = shrink(model, masks, example)
        assert shrunk.embedding.weight is shrunk.decoder.weight
        assert shrunk.embedding.weight.shape == (9, 7)
        check_equal(model, shrunk, {"decoder.weight": mask} | masks, 4)


def test_a_layer_with_two_readers_keeps_what_one_of_them_needs():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

        def forward(self, x):
            return self.b(torch.relu(self.a(x))), torch.sort(self.a(-x)).values

    model, x = Shared().double(), torch.randn(3, 4).double()
    groups = channels(model, x)
    assert [each.reason.operation for each in groups.pinned] == ["sort", "output"]
    assert shrink(model, rows(model, "a.weight", [1, 2]), x).a.out_features == 6


def test_round_to_keeps_the_first_removed_channels_at_zero():
    model = nn.Sequential(nn.Linear(4, 20, bias=False), nn.ReLU(), nn.Linear(20, 2)).double()
    masks = rows(model, "0.weight", [*range(9)])
    shrunk = shrink(model, masks, torch.randn(2, 4).double(), round_to=8)
    assert shrunk[0].out_features == 16
    assert torch.equal(shrunk[0].weight[:5], torch.zeros(5, 4).double())
    assert torch.equal(shrunk[0].weight[5:], model[0].weight[9:])
    small = shrink(model, rows(model, "0.weight", [0]), torch.randn(2, 4).double(), round_to=8)
    assert small[0].out_features == 20  # 24 would be more than there are


def test_single_masked_weights_stay_zero_in_what_is_kept():
    model = zoo.build("residual")
    masks = random_masks(model, 5)
    masks["a.0.weight"][2, 3, 1, 1] = False
    shrunk = shrink(model, masks, zoo.example("residual"))
    plan = shrink_plan(model, masks, zoo.example("residual"))
    for name, mask in keep(plan, masks).items():
        assert not shrunk.get_parameter(name)[~mask].any()


def test_a_plan_is_plain_data_that_rebuilds_the_network():
    for name in ("pre_activation", "transformer", "grouped", "own_attention", "recurrent"):
        model, example = zoo.build(name), zoo.example(name)
        masks = group_masks(norms(model), groups_of(name), 0.5)
        if name == "pre_activation":
            masks = {"bn1.weight": torch.arange(8) > 2, "bn1.bias": torch.arange(8) > 2}
        plan = shrink_plan(model, masks, example, groups=groups_of(name))
        shrunk = shrink(model, masks, example, groups=groups_of(name))
        rebuilt = apply_plan(zoo.build(name, seed=7), json.loads(json.dumps(plan)))
        rebuilt.load_state_dict(shrunk.state_dict())
        with torch.no_grad():
            assert torch.equal(rebuilt.eval()(*example), shrunk(*example))


def test_what_is_shrunk_can_be_trained_copied_and_shrunk_again():
    model, example = zoo.build("residual").train(), zoo.example("residual")
    model.stem.weight.requires_grad_(False)
    shrunk = shrink(model, group_masks(norms(model.eval()), groups_of("residual"), 0.5), example)
    shrunk = copy.deepcopy(shrunk).train()
    assert not shrunk.stem.weight.requires_grad
    shrunk(*example).sum().backward()
    assert shrunk.c[0].weight.grad.shape == (6, 6, 3, 3)
    again = group_masks(norms(shrunk.eval()), channels(shrunk, example), 0.5)
    assert shrink(shrunk, again, example).c[0].out_channels == 3


def test_the_model_given_is_left_as_it_is():
    for name in ("residual", "transformer", "pre_activation"):
        model, example = zoo.build(name).train(), zoo.example(name)
        before = copy.deepcopy(model.state_dict())
        kinds = [type(module) for module in model.modules()]
        shrink(model, group_masks(norms(model), groups_of(name), 0.5), example)
        assert model.training
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        assert kinds == [type(module) for module in model.modules()]
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_buffer_that_the_forward_writes_into_stays_as_it_is():
    class Counting(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + self.calls

    model, x = Counting().double(), torch.randn(3, 4).double()
    shrunk = shrink(model, rows(model, "0.weight", [1, 2]), x)
    assert shrunk[0].out_features == 4
    assert macs(shrunk, x) == 3 * (4 * 4 + 4 * 2)
    assert (float(model.calls), float(shrunk.calls)) == (0, 0)


def test_channels_last_and_single_precision_stay():
    model = zoo.build("residual", dtype=torch.float32).to(memory_format=torch.channels_last)
    example = zoo.example("residual", torch.float32)
    shrunk = shrink(model, group_masks(norms(model), groups_of("residual"), 0.5), example)
    assert shrunk.c[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert shrunk.c[0].weight.dtype == torch.float32


def test_zeros_that_a_module_counts_leave_with_their_channels():
    class Pad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = 2, 2

        def forward(self, x):
            return functional.pad(x, (0, 0, 0, 0, self.before, self.after))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(3, 8, 1, bias=False)
            self.pad, self.c = Pad(), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.c(torch.relu(self.b(x) + self.pad(self.a(x))))

    model = Net().double()
    masks = rows(model, "b.weight", [0, 2, 6, 7]) | rows(model, "a.weight", [0])
    shrunk = shrink(model, masks, torch.randn(2, 3, 4, 4).double())
    assert (shrunk.b.out_channels, shrunk.a.out_channels) == (4, 3)
    assert (shrunk.pad.before, shrunk.pad.after) == (1, 0)
