import copy

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


@pytest.mark.parametrize("name", IMAGE_NETS)
def test_gives_logits_and_copies(name):
    model = copy.deepcopy(build({"factory": name, "num_classes": 7})).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, *SHAPES.get(name, (3, 32, 32)))).shape == (2, 7)


def test_language_model_gives_logits_for_every_token():
    model = build({"factory": "lstm_lm", "tokens": 11, "hidden": 8, "embedding": 4})
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 11)


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


def test_unknown_name_tells_the_choices():
    with pytest.raises(PruningError, match="unknown model 'lenet'; choose from conv2, conv4"):
        build({"factory": "lenet"})
    with pytest.raises(PruningError, match="names no factory"):
        build({"width": 3})
