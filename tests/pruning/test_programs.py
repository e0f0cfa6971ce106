"""Exported programs: the network's outputs, in a process that knows nothing of this package."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, programs
from pruning.models import build

ALONE = """
import sys
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})]
for name in ("stages", "pruning", *{hidden!r}):
    sys.modules[name] = None  # an import of it is an ImportError from here on
from safetensors.numpy import load_file
inputs = load_file("images.safetensors")["images"]
expected = load_file("images.safetensors")["logits"]
{code}
assert found.shape == expected.shape
assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
print("same")
"""
PT2 = """
import torch
found = torch.export.load("program.pt2").module()(torch.from_numpy(inputs)).detach().numpy()
"""
ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: inputs})[0]
"""


class Halves(nn.Module):
    """Adds one half of the batch to the other: no other batch size has the same meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.reshape(2, 2, 3).sum(0))


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of a network's programs, with images and the logits that it gives them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("programs")
    torch.manual_seed(0)
    model = build({"factory": "digits_conv", "width": 4}).train()
    model(torch.randn(16, 1, 8, 8))  # statistics that are not those of a fresh network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = programs.program(model, torch.zeros(1, 1, 8, 8))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    programs.write_program(found, folder / "program.pt2")
    programs.write_onnx(found, folder / "model.onnx")
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        logits = model.eval()(images)
    save_file({"images": images, "logits": logits}, folder / "images.safetensors")
    return folder, model, images


@pytest.mark.parametrize(("code", "hidden"), [(PT2, ["onnxruntime"]), (ONNX, ["torch", "onnx"])])
def test_a_program_runs_alone_on_any_batch(exported, code, hidden):
    folder, *_ = exported
    script = ALONE.format(root=str(programs.__file__).rsplit("/", 2)[0], hidden=hidden, code=code)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout == "same\n", done.stderr


def test_a_program_of_other_weights_does_not_pass(exported):
    folder, model, images = exported
    call = programs.onnx_call(folder / "model.onnx")
    assert programs.check(call, model, images, "ONNX") < 1e-5
    other = build({"factory": "digits_conv", "width": 4})
    with pytest.raises(PruningError, match="ONNX: its output differs from the network's by"):
        programs.check(call, other, images, "ONNX")
    with pytest.raises(PruningError, match="2 outputs, the network has 1"):
        programs.check(lambda batch: [batch, batch], model, images, "ONNX")


def test_a_network_of_one_batch_size_is_exported_for_it():
    model, example = Halves(), torch.randn(4, 3)
    found = programs.program(model, example)
    assert programs.check(found.module(), model, example, "program") < 1e-6


def test_a_network_that_reads_tokens_is_checked_on_tokens():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    tokens = torch.tensor([[0, 4], [1, 3], [2, 2]])
    found = programs.program(model, tokens)
    assert programs.check(found.module(), model, tokens, "program") < 1e-6


def test_what_cannot_be_exported_says_so(tmp_path):
    with pytest.raises(PruningError, match="Branches cannot be exported: "):
        programs.program(Branches(), torch.randn(2, 3))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(PruningError, match=r"model.onnx: onnxruntime refuses it"):
        programs.onnx_call(tmp_path / "model.onnx")


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PruningError, match=r"onnxscript is not installed; pip install"):
        programs.write_onnx(None, tmp_path / "model.onnx")  # type: ignore[arg-type]
    with pytest.raises(PruningError, match="onnxruntime is not installed"):
        programs.onnx_call(tmp_path / "model.onnx")
