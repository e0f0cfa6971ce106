import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from pruning.errors import PruningError
from pruning.models import build, names

# Published sizes; exact where the architecture leaves no choice, else to the digits printed.
EXACT = {
    "lenet_300_100": 266_610,  # Han et al. 2015, table 3: 267K
    "lenet5": 431_080,  # Han et al. 2015, table 4: 431K
    "resnet20": 269_722,  # He et al. 2016, table 6: 0.27M; option A has no shortcut weights
    "resnet32": 464_154,  # 0.46M
    "resnet44": 658_586,  # 0.66M
    "resnet56": 853_018,  # 0.85M
    "resnet110": 1_727_962,  # 1.7M
    "vgg19_bn": 20_035_018,  # Liu et al. 2017, table 1: 20.04M
    "densenet40": 1_019_722,  # Liu et al. 2017, table 1: 1.02M; Huang et al. 2017: 1.0M
    "densenet_bc100": 769_162,  # Huang et al. 2017, table 2: 0.8M
}
PRINTED = {
    "conv2": 4.3e6,  # Frankle & Carbin 2019, figure 2
    "conv4": 2.4e6,
    "preresnet110": 1.7e6,  # He et al. 2016b
    "preresnet164": 1.7e6,
    "vgg16_bn": 14.7e6,  # Liu et al. 2019, the CIFAR form with one linear layer
}
SHAPES = {"lenet_300_100": (1, 28, 28), "lenet5": (1, 28, 28), "digits_conv": (1, 8, 8)}
IMAGE_NETS = sorted(set(names()) - {"lstm_lm"})


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "count"), EXACT.items())
def test_published_parameter_count(name, count):
    assert parameters(build({"factory": name})) == count


@pytest.mark.parametrize(("name", "count"), PRINTED.items())
def test_parameter_count_to_the_digits_printed(name, count):
    assert round(parameters(build({"factory": name})), -5) == count


def test_conv6_has_the_convolutions_printed_and_our_count_of_the_rest():
    model = build({"factory": "conv6"})
    convolutions = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
    assert convolutions == 1_144_512  # printed as 1.1M
    assert parameters(model) == 2_262_602


def test_vgg16_of_li_has_a_hidden_layer():
    # Li et al. 2017, table 1: 1.5 x 10^7
    assert parameters(build({"factory": "vgg16_bn", "hidden": 512})) == pytest.approx(
        1.5e7, rel=5e-3
    )


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # Zaremba et al. 2014, medium and large, whose sizes Merity et al. 2018 (AWD-LSTM), table 1,
        # give as 20M and 66M
        ({"tokens": 10_000, "embedding": 650, "hidden": 650}, 20),
        ({"tokens": 10_000, "embedding": 1500, "hidden": 1500}, 66),
    ],
)
def test_language_model_has_the_sizes_published_for_penn_treebank(settings, count):
    model = build({"factory": "lstm_lm", **settings})
    assert round(parameters(model) / 1e6) == count


def test_densenet40_of_network_slimming_starts_wider():
    model = build({"factory": "densenet40", "stem": 24})
    # The README of network-slimming prints 1.07M. Its code adds to each BatchNorm a parameter of
    # one index a channel: 24, 36, ... 456 channels, and 168 and 312 again after the transitions.
    indices = sum(range(24, 457, 12)) + 168 + 312
    assert sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)) == indices
    assert round((parameters(model) + indices) / 1e6, 2) == 1.07


@pytest.mark.parametrize(
    ("name", "settings", "depth"),
    [
        *((f"resnet{depth}", {}, depth) for depth in (20, 32, 44, 56, 110)),
        ("resnet20", {"shortcut": "projection"}, 20),
        ("preresnet110", {}, 110),
        ("preresnet110", {"block": "bottleneck"}, 110),
        ("preresnet164", {}, 164),
        ("vgg16_bn", {"hidden": 512}, 15),  # Li et al. 2017: 13 convolutions and 2 linear layers
        ("densenet40", {}, 40),
        ("densenet_bc100", {}, 100),
    ],
)
def test_has_as_many_layers_as_its_name_says(name, settings, depth):
    model = build({"factory": name, **settings})
    layers = [
        layer
        for layer, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and "shortcut" not in layer
        and "downsample" not in layer
    ]
    assert len(layers) == depth


def test_an_unknown_block_tells_the_choices():
    with pytest.raises(PruningError, match="unknown block 'wide'; choose from basic, bottleneck"):
        build({"factory": "preresnet110", "block": "wide"})


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_gives_logits_and_copies(name):
    model = copy.deepcopy(build({"factory": name, "num_classes": 7})).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, *SHAPES.get(name, (3, 32, 32)))).shape == (2, 7)


def test_language_model_gives_logits_for_every_token():
    model = build({"factory": "lstm_lm", "tokens": 11, "hidden": 8, "embedding": 4})
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 11)


@pytest.mark.parametrize(
    "spec",
    [
        {"factory": "lenet_300_100"},
        {"factory": "lenet5"},
        {"factory": "conv2"},
        {"factory": "digits_conv"},
        {"factory": "resnet20"},
        {"factory": "resnet20", "shortcut": "projection"},
        {"factory": "vgg16_bn", "hidden": 512},
        {"factory": "densenet40"},
        {"factory": "lstm_lm", "dropout": 0.5},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights")  # torch's own
def test_the_exported_program_gives_the_same_logits(spec):
    torch.manual_seed(0)
    model = build(spec).eval()
    example = torch.randn(2, *SHAPES.get(spec["factory"], (3, 32, 32)))
    if spec["factory"] == "lstm_lm":
        example = torch.randint(65, (2, 5))
    exported = torch.export.export(model, (example,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(example), model(example))


def test_padding_shortcut_adds_zero_channels_and_projection_weights():
    padded, projected = (
        build({"factory": "resnet20", "shortcut": shortcut}) for shortcut in ("pad", "projection")
    )
    images = torch.arange(2 * 16 * 4 * 4.0).reshape(2, 16, 4, 4)
    out = padded.layer2[0].shortcut(images)
    assert out.shape == (2, 32, 2, 2)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() == 0 == out[:, 24:].abs().sum()
    # two projections: 16x32 and 32x64 weights with a scale and a shift a channel
    assert parameters(projected) - parameters(padded) == 16 * 32 + 64 + 32 * 64 + 128


def test_the_seed_gives_the_weights():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(build({"factory": "resnet20"}))
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_any_factory_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def small(*, width): return nn.Linear(4, width)\n"
        "def broken(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build({"factory": "my_nets:small", "width": 5}, foreign=True).out_features == 5
    with pytest.raises(PruningError, match=r"unknown argument .*'height'; choose from width"):
        build({"factory": "my_nets:small", "height": 5}, foreign=True)
    with pytest.raises(PruningError, match="returned a int, no nn"):
        build({"factory": "my_nets:broken"}, foreign=True)
    with pytest.raises(PruningError, match="cannot be imported"):
        build({"factory": "my_nets:absent"}, foreign=True)


def test_foreign_code_is_not_even_imported_unless_allowed(tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PruningError, match="foreign=True"):
        build({"factory": "hostile:net"})


def test_torchvision_by_name():
    model = build({"factory": "torchvision:squeezenet1_1", "num_classes": 3})
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(PruningError, match="unknown torchvision model 'resnet5'"):
        build({"factory": "torchvision:resnet5"})


@pytest.mark.parametrize("name", ["fcn_resnet50", "retinanet_resnet50_fpn", "resnet18"])
def test_torchvision_fetches_no_weights_not_even_a_backbones(name, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing from an earlier day's cache either
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda url, *_, **__: fetched.append(url)
    )
    build({"factory": f"torchvision:{name}", "num_classes": 3})
    assert not fetched


@pytest.mark.parametrize("argument", ["num_clases", "weights", "weights_backbone"])
@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "quantized_resnet18"])
def test_torchvision_refuses_what_it_does_not_know(name, argument):
    with pytest.raises(PruningError, match=rf"unknown argument .*'{argument}'; .*num_classes"):
        build({"factory": f"torchvision:{name}", argument: None})


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_gives_logits_alone_in_training(name):
    model = build({"factory": f"torchvision:{name}", "num_classes": 3}).train()
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 3)


def test_a_factory_that_fails_is_told_in_one_line_with_its_place(tmp_path, monkeypatch):
    (tmp_path / "failing_nets.py").write_text("def net(*, width):\n    return {}[width]\n")
    monkeypatch.syspath_prepend(tmp_path)
    where = r"model 'failing_nets:net' with {'width': 7} .*KeyError: 7 \(failing_nets.py, line 2\)"
    with pytest.raises(PruningError, match=where):
        build({"factory": "failing_nets:net", "width": 7}, foreign=True)
    with pytest.raises(PruningError, match=r"missing 1 required .*'width'"):
        build({"factory": "failing_nets:net"}, foreign=True)
    with pytest.raises(PruningError, match=r"model 'resnet20' with {'width': -2} cannot be built"):
        build({"factory": "resnet20", "width": -2})
    with pytest.raises(PruningError, match=r"model 'math:sqrt'.* TypeError"):
        build({"factory": "math:sqrt"}, foreign=True)


def test_a_factory_in_the_current_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "nets_beside_params.py").write_text("from torch.nn import Identity as net\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert str(tmp_path) not in before
    assert isinstance(build({"factory": "nets_beside_params:net"}, foreign=True), nn.Identity)
    assert sys.path == before


def test_a_look_at_the_names_imports_no_torch():
    code = "import sys, pruning.models as m; assert m.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_name_tells_the_choices():
    with pytest.raises(PruningError, match="unknown model 'lenet'; choose from conv2, conv4"):
        build({"factory": "lenet"})
    for spec in ({"width": 3}, {"factory": 3}, ["resnet20"]):
        with pytest.raises(PruningError, match="names no factory"):
            build(spec)
