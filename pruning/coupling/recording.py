"""The graph of a network, recorded in one forward on fake tensors.

The same operations that torch.export lists, in a third of its time: nothing is proxied, checked,
or turned into a program.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher, no_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pruning.coupling.copies import skeleton, watched


def record(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, training: bool = False
) -> tuple[fx.Graph, dict[str, str]]:
    """Return the graph of one forward, and the tensor's name for which each placeholder stands.

    The model is left as it is. Whatever cannot run on tensors without values, as control flow that
    depends on them, raises torch's own error.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = _Recorder()
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    stand_ins = {id(tensor): _stand_in(tensor, fake) for tensor in named.values()}
    names = {}
    for name, tensor in named.items():
        kind = "p" if isinstance(tensor, nn.Parameter) else "b"
        node = recorder.placeholder(stand_ins[id(tensor)], f"{kind}_{name.replace('.', '_')}")
        names[node.name] = name
    trial = skeleton(model, stand_ins).train(training)

    def faked(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        found = fake.from_tensor(leaf)
        recorder.placeholder(found, "input")
        return found

    args, kwargs = tree_map(faked, (args, dict(kwargs)))
    with watched(trial) as recorder.running, fake, enable_python_dispatcher(), recorder:
        result = trial(*args, **kwargs)
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    recorder.graph.output(tuple(recorder.node(leaf) for leaf in leaves))
    return recorder.graph, names


def _stand_in(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    """Return a tensor like this one that holds no values."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        return fake.from_tensor(tensor)
    empty = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=torch.device("meta")
    )
    # Ten times as fast as `from_tensor`, which looks for views and subclasses too.
    found = FakeTensor(fake, empty, tensor.device, requires_grad=tensor.requires_grad)
    found._is_param = isinstance(tensor, nn.Parameter)
    return found


class _Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation as the forward calls it, before torch takes it apart.

    Only this kind of mode is let in before autograd; nothing else of its parent is used.
    """

    def __init__(self) -> None:
        super().__init__(None, "fake", pre_dispatch=True)  # type: ignore[arg-type]
        self.graph = fx.Graph()
        self.running: list[str] = []
        self.nodes: dict[int, fx.Node] = {}
        self.places: dict[tuple[Any, ...], fx.Node] = {}
        self.alive: list[Tensor] = []

    def placeholder(self, tensor: Tensor, name: str) -> fx.Node:
        """Return a new placeholder that stands for a tensor."""
        node = self.graph.placeholder(name)
        return self._hold(tensor, node)

    def _hold(self, tensor: Tensor, node: fx.Node) -> fx.Node:
        node.meta["val"] = tensor
        # As long as a tensor lives no other has its id.
        self.alive.append(tensor)
        self.nodes[id(tensor)] = node
        self.places[_place(tensor)] = node
        return node

    def node(self, value: Any) -> Any:
        """Return the node of a tensor; one that the forward holds itself gets a placeholder."""
        if not isinstance(value, Tensor):
            return value
        # torch hands out what it makes itself, such as zeros, as another object.
        found = self.nodes.get(id(value)) or self.places.get(_place(value))
        return self.placeholder(value, "constant") if found is None else found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with no_python_dispatcher(), torch.no_grad():
            found = func(*args, **(kwargs or {}))
        given, named = tree_map(self.node, (args, kwargs or {}))
        node = self.graph.call_function(func, given, named)
        node.meta["nn_module_stack"] = {"": (self.running[-1] if self.running else "", None)}
        if isinstance(found, Tensor):
            self._hold(found, node)
            return found
        node.meta["val"] = found
        for at, each in enumerate(found if isinstance(found, list | tuple) else ()):
            if isinstance(each, Tensor):
                self._hold(each, self.graph.call_function(operator.getitem, (node, at)))
        return found


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return where in memory a tensor's values lie, and how."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
