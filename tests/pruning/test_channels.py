"""Which channels go together, worked out by hand on small networks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pruning.coupling import exporting
from pruning.coupling.groups import Groups, channels
from pruning.errors import PruningError
from tests.pruning import channel_zoo as zoo


def groups_of(name: str) -> Groups:
    return channels(zoo.build(name), zoo.example(name))


def members(groups: Groups, name: str, dim: int, position: int) -> dict[tuple[str, int], tuple]:
    """Return the members of the group that holds a position, buffers left out."""
    found = [
        group
        for group in groups
        if any((m.name, m.dim) == (name, dim) and position in m.positions for m in group.members)
    ]
    # Other groups may need this one gone first; they are not its group.
    smallest = min(found, key=lambda group: len(group.members))
    named = set(groups.parameters)
    return {(m.name, m.dim): m.positions for m in smallest.members if m.name in named}


def pins(groups: Groups) -> dict[str, tuple[int, str]]:
    return {p.parameter: (p.channels, p.reason.operation) for p in groups.pinned}


def test_a_sum_ties_its_partners_and_flatten_spreads_a_channel():
    groups = groups_of("residual")
    rows = {("b.0.weight", 0): (2,), ("down.weight", 0): (2,), ("c.0.weight", 0): (2,)}
    assert members(groups, "down.weight", 0, 2) == {
        **rows,
        **{("b.0.bias", 0): (2,), ("down.bias", 0): (2,), ("c.0.bias", 0): (2,)},
        **{(f"{norm}.1.{part}", 0): (2,) for norm in "bc" for part in ("weight", "bias")},
        ("c.0.weight", 1): (2,),
        ("fc.weight", 1): tuple(range(18, 27)),
    }
    assert len(groups) == 8 + 6 + 12
    assert pins(groups) == {"fc.weight": (5, "output")}


def test_concatenation_shifts_positions_and_a_norm_behind_it_follows():
    groups = groups_of("concatenated")
    assert members(groups, "right.weight", 0, 1) == {
        ("right.weight", 0): (1,),
        ("right.bias", 0): (1,),
        ("norm.weight", 0): (8,),
        ("norm.bias", 0): (8,),
        ("last.weight", 1): (8,),
    }
    assert len(groups) == 4 + 6 + 3  # the norm need not read the three that come from outside


def test_padded_zeros_written_as_numbers_hold_the_channels_that_meet_them():
    groups = groups_of("padded_shortcut")
    assert members(groups, "stem.weight", 0, 3) == {
        ("stem.weight", 0): (3,),
        ("conv1.weight", 1): (3,),
        ("conv2.weight", 0): (5,),
        ("fc.weight", 1): (5,),
    }
    assert pins(groups) == {"conv2.weight": (4, "add"), "fc.weight": (3, "output")}


def test_a_norm_that_reads_a_stream_goes_before_the_stream_and_alone():
    groups = groups_of("pre_activation")
    alone = {("bn1.weight", 0): (4,), ("bn1.bias", 0): (4,), ("conv1.weight", 1): (4,)}
    assert members(groups, "bn1.weight", 0, 4) == alone
    assert members(groups, "stem.weight", 0, 4) == {
        **alone,
        ("stem.weight", 0): (4,),
        ("conv2.weight", 0): (4,),
        **{("bn3.weight", 0): (4,), ("bn3.bias", 0): (4,), ("fc.weight", 1): (4,)},
    }
    assert len(groups) == 8 + 8 + 6


def test_depthwise_channels_and_their_gates_go_together():
    found = members(groups_of("depthwise"), "depth.weight", 0, 7)
    assert {key: at for key, at in found.items() if not key[0].startswith("bn")} == {
        **{("expand.weight", 0): (7,), ("depth.weight", 0): (7,), ("squeeze.weight", 1): (7,)},
        **{("excite.weight", 0): (7,), ("excite.bias", 0): (7,), ("project.weight", 1): (7,)},
    }


def test_groups_of_a_convolution_go_whole():
    groups = groups_of("grouped")
    assert len(groups) == 4
    assert members(groups, "first.weight", 0, 4) == {
        **{("first.weight", 0): (3, 4, 5), ("first.bias", 0): (3, 4, 5)},
        **{("grouped.weight", 0): (2, 3), ("grouped.bias", 0): (2, 3)},
        **{("wide.weight", 0): (4, 5, 6, 7), ("wide.bias", 0): (4, 5, 6, 7)},
        ("last.weight", 1): (4, 5, 6, 7),
    }


def test_grouped_channels_that_are_shuffled_lose_one_position_of_every_group():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.grouped = nn.Conv2d(6, 8, 1, groups=2)
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x):
            x = functional.relu(self.first(x))
            return self.last(self.grouped(x.repeat(1, 2, 1, 1)))

    groups = channels(Twice(), torch.randn(1, 3, 4, 4))
    assert members(groups, "first.weight", 0, 1) == {
        **{("first.weight", 0): (1,), ("first.bias", 0): (1,)},
        ("grouped.weight", 1): (1,),
    }
    assert members(groups, "grouped.weight", 0, 3) == {
        **{("grouped.weight", 0): (3, 7), ("grouped.bias", 0): (3, 7)},
        ("last.weight", 1): (3, 7),
    }


def test_transposed_convolutions_have_their_channels_in_the_other_dimension():
    groups = groups_of("upsampler")
    assert members(groups, "up.weight", 1, 5) == {
        **{("up.weight", 1): (5,), ("up.bias", 0): (5,), ("slope.weight", 0): (5,)},
        **{("each.weight", 0): (5,), ("each.bias", 0): (5,), ("wide.weight", 1): (5,)},
    }
    assert members(groups, "wide.weight", 0, 9) == {
        **{("wide.weight", 0): (8, 9, 10, 11), ("wide.bias", 0): (8, 9, 10, 11)},
        ("deep.weight", 1): (8, 9, 10, 11),
    }


def test_norms_within_groups_let_whole_groups_go_and_gates_go_with_their_values():
    groups = groups_of("group_normed")
    assert members(groups, "first.weight", 0, 7) == {
        **{("first.weight", 0): (6, 7, 8), ("first.bias", 0): (6, 7, 8)},
        **{("groups.weight", 0): (6, 7, 8), ("groups.bias", 0): (6, 7, 8)},
        ("second.weight", 1): (6, 7, 8),
    }
    assert members(groups, "second.weight", 0, 1) == {
        **{("second.weight", 0): (1, 5), ("second.bias", 0): (1, 5)},
        **{("each.weight", 0): (1, 5), ("each.bias", 0): (1, 5), ("last.weight", 1): (1,)},
    }


def test_a_hidden_unit_is_a_row_of_every_gate_and_a_column():
    groups = groups_of("recurrent")
    rows = tuple(range(3, 40, 10))
    assert members(groups, "lstm.weight_hh_l0", 1, 3) == {
        **{(f"lstm.{kind}_l0", 0): rows for kind in ("weight_ih", "weight_hh")},
        **{(f"lstm.{kind}_l0", 0): rows for kind in ("bias_ih", "bias_hh")},
        **{("lstm.weight_hh_l0", 1): (3,), ("lstm.weight_ih_l1", 1): (3,)},
    }
    back = "gru.{}_l0_reverse".format
    assert members(groups, "decoder.weight", 1, 6 + 2) == {
        **{(back(kind), 0): (2, 8, 14) for kind in ("weight_ih", "weight_hh")},
        **{(back(kind), 0): (2, 8, 14) for kind in ("bias_ih", "bias_hh")},
        **{(back("weight_hh"), 1): (2,), ("decoder.weight", 1): (8,)},
    }


def test_heads_go_whole_and_a_layer_norm_holds_the_stream():
    groups = groups_of("transformer")
    prefix = "encoder.layers.1.self_attn."
    rows = (*range(4, 8), *range(20, 24), *range(36, 40))
    assert members(groups, prefix + "in_proj_weight", 0, 5) == {
        (prefix + "in_proj_weight", 0): rows,
        (prefix + "in_proj_bias", 0): rows,
        (prefix + "out_proj.weight", 1): tuple(range(4, 8)),
    }
    assert len(groups) == 2 * (4 + 24)
    assert pins(groups)["patches.weight"] == (16, "layer_norm")
    assert pins(groups)["encoder.layers.1.linear2.weight"] == (16, "layer_norm")


def test_a_weight_cut_in_equal_parts_is_followed_part_by_part():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.bias = nn.Parameter(torch.ones(12, 4)), nn.Parameter(torch.ones(12))
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            (value, gate), (shift, offset) = self.both.chunk(2), self.bias.chunk(2)
            value = functional.linear(x, value, shift)
            return self.out(value * torch.sigmoid(functional.linear(x, gate, offset)))

    groups = channels(Net(), torch.randn(2, 4))
    assert members(groups, "both", 0, 7) == {
        **{("both", 0): (1, 7), ("bias", 0): (1, 7)},
        ("out.weight", 1): (1,),
    }
    assert len(groups) == 6


def test_heads_that_attend_to_another_sequence_are_free_too():
    layer = nn.TransformerDecoderLayer(8, 2, 6, batch_first=True)
    groups = channels(layer, (torch.randn(1, 3, 8), torch.randn(1, 5, 8)))
    rows = (*range(4, 8), *range(12, 16), *range(20, 24))
    assert members(groups, "multihead_attn.in_proj_weight", 0, 13) == {
        ("multihead_attn.in_proj_weight", 0): rows,
        ("multihead_attn.in_proj_bias", 0): rows,
        ("multihead_attn.out_proj.weight", 1): tuple(range(4, 8)),
    }
    assert len(groups) == 2 + 2 + 6


def test_tied_weights_are_one_member_under_their_first_name():
    groups = groups_of("shared")
    assert members(groups, "mix.weight", 0, 5) == {
        **{("embedding.weight", 1): (5,), ("mix.weight", 0): (5,), ("mix.weight", 1): (5,)},
        **{("mix.bias", 0): (5,), ("widen.weight", 0): (5,), ("widen.bias", 0): (5,)},
        ("narrow.weight", 1): (5,),
    }


def test_an_unknown_operation_pins_what_enters_it_and_is_named():
    groups = groups_of("unknown")
    assert pins(groups) == {"b.weight": (6, "sort"), "d.weight": (2, "output")}
    assert len(groups) == 8 + 7
    assert str(groups.pinned[0].reason) == "sort in the network itself"


def test_a_slice_of_channels_pins_them():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(3, 2)

        def forward(self, x):
            return self.b(torch.relu(self.a(x))[:, :3])

    assert pins(channels(Net(), torch.randn(2, 4)))["a.weight"] == (8, "slice")


def test_writing_into_a_view_pins_what_the_base_holds():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x.view(2, 2, 4).add_(1.0)
            return self.b(x)

    assert pins(channels(Net(), torch.randn(2, 4)))["a.weight"][0] == 8


def test_an_auxiliary_head_that_only_training_runs_is_followed_too():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.aux = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 3)

        def forward(self, x):
            x = torch.relu(self.a(x))
            return (self.b(x), self.aux(x)) if self.training else self.b(x)

    found = members(channels(Net(), torch.randn(2, 4)), "a.weight", 0, 1)
    assert found[("aux.weight", 1)] == (1,)


def test_the_model_is_left_as_it_is():
    model = zoo.build("residual").train()
    before = copy.deepcopy(model.state_dict())
    channels(model, zoo.example("residual"))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_inputs_may_be_a_tensor_a_tuple_or_keywords():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(2, 3)
    assert [len(channels(model, given)) for given in (x, (x,), {"input": x})] == [5, 5, 5]


def ledger(groups: Groups) -> tuple[object, ...]:
    return [*groups], groups.pinned, [str(each) for each in groups.trace.resizes]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_torch_export_leads_to_the_same_groups(name, monkeypatch):
    recorded = ledger(groups_of(name))
    monkeypatch.setattr(exporting, "_recorded", lambda *_: None)
    assert ledger(groups_of(name)) == recorded


def test_a_forward_is_recorded_unless_values_decide_what_runs(monkeypatch):
    def no_export(*_: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(exporting, "_exported", no_export)
    assert len(groups_of("recurrent")) > 0
    with pytest.raises(PruningError, match="AssertionError: exported"):
        channels(Branching(), torch.randn(2, 3))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


def test_control_flow_that_depends_on_values_is_named():
    with pytest.raises(PruningError, match=r"Branching cannot be exported.*stays masked"):
        channels(Branching(), torch.randn(2, 3))


def test_inputs_of_the_wrong_shape_are_named():
    with pytest.raises(
        PruningError, match=r"example inputs \[\(2, 7\)\] do not run through Linear"
    ):
        channels(nn.Linear(3, 4), torch.randn(2, 7))


def test_inputs_on_another_device_are_named():
    with pytest.raises(PruningError, match="example inputs are on meta, the model is on cpu"):
        channels(nn.Linear(3, 4), torch.randn(2, 3, device="meta"))
