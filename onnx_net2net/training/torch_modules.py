"""PyTorch's modules at new sizes, and layers inserted behind activations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from onnx_net2net.algebra.axes import Axis, Dim, Maps, Prod, new_size, size
from onnx_net2net.errors import RequestError
from onnx_net2net.planning.plan import Layer
from onnx_net2net.training.checkpoint import to_torch
from onnx_net2net.training.torch_layers import inserted
from onnx_net2net.training.weights import Growth

Resize = Callable[[Any, str, Growth], None]
"""Sets what a module says of its own sizes, once its tensors are new: (module, path, growth)."""


def resize(module: Any, growth: Growth) -> None:
    """Gives a module's children, in place, the tensors of the student and the sizes that go with them.

    Raises:
        RequestError: If a kind of module cannot be resized.
    """
    owners: dict[str, list[str]] = {}
    for change in growth.report.changes:
        if change.before != change.after:
            path, _, name = change.tensor.rpartition(".")
            owners.setdefault(path, []).append(name)
    shared: dict[int, list[Any]] = {}
    for path, names in owners.items():
        owner = module.get_submodule(path)
        known = next((how for kinds, how in KINDS if isinstance(owner, kinds)), None)
        if known is None and type(owner).__module__.startswith("torch.nn."):
            raise RequestError(
                f"a {type(owner).__name__} cannot be resized",
                "skip its axes, or make it of simpler modules",
                op="module",
                node=path,
            )
        for name in names:
            _replace(owner, name, growth.state[f"{path}.{name}" if path else name], shared)
        if known is not None:
            known(owner, path, growth)


def _replace(owner: Any, name: str, value: Any, shared: dict[int, list[Any]]) -> None:
    """A new tensor for a parameter or a buffer, of the same kind; what was shared stays shared if it is still equal.

    ``shared`` remembers the new parameters by the old one, which has to stay alive so that no other takes its place.
    """
    old = getattr(owner, name)
    tensor = to_torch(value).to(device=old.device, dtype=old.dtype)
    if not isinstance(old, nn.Parameter):
        owner.register_buffer(name, tensor, persistent=name not in owner._non_persistent_buffers_set)
        return
    made = shared.setdefault(id(old), [old])
    again = next((new for new in made[1:] if torch.equal(new, tensor)), None)
    if again is None:
        again = nn.Parameter(tensor, requires_grad=old.requires_grad)
        made.append(again)
    setattr(owner, name, again)


def _linear(module: Any, path: str, growth: Growth) -> None:
    module.out_features, module.in_features = module.weight.shape


def _convolution(module: Any, path: str, growth: Growth) -> None:
    first = module.in_channels if module.transposed else module.out_channels
    module.groups = _outer(path, growth, first, module.groups)
    first, second = module.weight.shape[0], module.weight.shape[1] * module.groups
    module.in_channels, module.out_channels = (first, second) if module.transposed else (second, first)


def _batch_norm(module: Any, path: str, growth: Growth) -> None:
    module.num_features = next(t.numel() for t in (module.weight, module.running_mean) if t is not None)


def _layer_norm(module: Any, path: str, growth: Growth) -> None:
    module.normalized_shape = tuple(module.weight.shape)
    version = growth.matching.matches[f"{path}.weight" if path else "weight"].parts[0].version
    scale = growth.teacher.versions[version].scale if version else 1.0
    if scale != 1:  # with filler, the weight takes on a power of eta, as the root of the variance does
        default = torch.finfo(module.weight.dtype).eps
        module.eps = (default if module.eps is None else module.eps) * scale**2


def _group_norm(module: Any, path: str, growth: Growth) -> None:
    module.num_groups = _outer(path, growth, module.num_channels, module.num_groups)
    module.num_channels = module.weight.numel()


def _embedding(module: Any, path: str, growth: Growth) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


def _prelu(module: Any, path: str, growth: Growth) -> None:
    module.num_parameters = module.weight.numel()


def _recurrent(module: Any, path: str, growth: Growth) -> None:
    if module.proj_size:
        raise RequestError("a projection cannot be resized", "skip its axes", op="module", node=path)
    module.input_size, module.hidden_size = module.weight_ih_l0.shape[1], module.weight_hh_l0.shape[1]
    for name, weight in module.named_parameters(recurse=False):
        layer = name.split("_l")[1].removesuffix("_reverse")
        directions = 2 if module.bidirectional else 1
        taken = module.input_size if layer == "0" else directions * module.hidden_size
        wanted = taken if name.startswith("weight_ih") else module.hidden_size
        if weight.ndim == 2 and weight.shape[1] != wanted:
            wrong = f"its layers would have different sizes ({name} takes {weight.shape[1]}, not {wanted})"
            raise RequestError(wrong, "grow all its hidden axes to one size", op="module", node=path)
    module.flatten_parameters()


def _cell(module: Any, path: str, growth: Growth) -> None:
    module.input_size, module.hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]


KINDS: list[tuple[Any, Resize]] = [
    (nn.modules.conv._ConvNd, _convolution),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.GroupNorm, _group_norm),
    (tuple(kind for kind in (nn.LayerNorm, getattr(nn, "RMSNorm", None)) if kind), _layer_norm),
    (nn.Linear, _linear),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
]
"""How modules of PyTorch say their sizes. Modules of others only get their tensors."""


def _outer(path: str, growth: Growth, channels: int, groups: int) -> int:
    """How many groups the student has: the outer factors of the term of a weight's first axis."""
    found = growth.matching.matches[f"{path}.weight" if path else "weight"]
    version, axis = found.parts[0].version, growth.teacher.axes(found)[0]
    if groups == 1 or not version or axis is None:
        return groups
    outer = outermost(growth.teacher.versions[version].dims[axis], channels // groups, growth.plan.maps)
    if outer is None:
        raise RequestError("its groups do not follow from its channels", "skip its axes", op="module", node=path)
    return outer


def outermost(dim: Dim, inner: int, maps: Maps) -> int | None:
    """New size of what is left of a dimension without its innermost ``inner`` units; None if nothing divides so."""
    if inner == 1:
        return new_size(dim, maps)
    if isinstance(dim, Axis):
        return 1 if dim.size == inner else None
    if isinstance(dim, Prod):
        parts = list(dim.parts)
        while parts and inner % size(parts[-1]) == 0:
            inner //= size(parts.pop())
        if inner == 1:
            return new_size(Prod(tuple(parts)), maps)
        rest = outermost(parts.pop(), inner, maps) if parts else None
        return None if rest is None else rest * new_size(Prod(tuple(parts)), maps)
    counts = [outermost(part, inner, maps) if size(part) % inner == 0 else None for part in dim.parts]
    return None if None in counts else sum(count or 0 for count in counts)


def insert(module: Any, growth: Growth, inputs: Sequence[Any]) -> dict[str, str]:
    """Puts the plan's layers behind the activations that they follow, in place.

    An activation becomes a ``Sequential`` of itself and what follows it. It has to be a module of its own that has no
    weights and runs once.

    Returns:
        Name of the student's initializer -> name of the parameter or buffer.

    Raises:
        RequestError: If there is no such module, or a layer cannot be made of modules.
    """
    if growth.plan.blocks:
        tensor = growth.plan.blocks[0].tensor
        raise RequestError("copies of blocks have to be made by hand", "load report.added", op="module", tensor=tensor)
    if growth.plan.inserted:
        node = growth.plan.inserted[0]
        wrong = "inserted nodes have to be made by hand"
        raise RequestError(wrong, "load report.added", op="module", tensor=node.tensor)
    by_module: dict[str, list[Layer]] = {}
    for layer in growth.plan.layers:
        by_module.setdefault(_owner(module, growth, layer.after, layer.tensor), []).append(layer)
    runs = _runs(module, list(by_module), inputs)
    found: dict[str, str] = {}
    for path, layers in by_module.items():
        if runs[path] != 1 or len({layer.after for layer in layers}) > 1:
            raise _no_place(layers[0].tensor, f"{path} runs {runs[path]} times")
        steps = [module.get_submodule(path)]
        for layer in layers:
            repeated = nn.ReLU()
            if layer.repeats >= 0:
                repeated = copy.deepcopy(module.get_submodule(_owner(module, growth, layer.repeats, layer.tensor)))
            made = inserted(layer, growth, repeated)
            found |= {name: f"{path}.{len(steps)}.{inner}" for name, inner in made.names.items()}
            steps.append(made.module)
        parameter = next(module.parameters())
        wrapped = nn.Sequential(*steps).to(device=parameter.device).train(module.training)
        owner, _, name = path.rpartition(".")
        setattr(module.get_submodule(owner), name, wrapped)
    return found


def _owner(module: Any, growth: Growth, node: int, tensor: str) -> str:
    """The path of the module that computes a node and nothing else, without weights."""
    for path in sorted(growth.teacher.scopes(node), key=len, reverse=True):
        try:
            found = module.get_submodule(path)
        except AttributeError:
            continue
        if not list(found.children()) and not list(found.parameters()):
            return path
    raise _no_place(tensor, "no module of its own, without weights, computes it")


def _no_place(tensor: str, wrong: str) -> RequestError:
    way_out = "give each activation a module of its own, or insert the layer by hand and load the weights"
    return RequestError(wrong, way_out, op="module", tensor=tensor)


def _runs(module: Any, paths: Sequence[str], inputs: Sequence[Any]) -> dict[str, int]:
    """How often each module runs, which hooks count on a copy of the teacher's sizes or the student's alike."""
    counts = dict.fromkeys(paths, 0)

    def hook(path: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            counts[path] += 1

        return count

    if not paths:
        return counts
    probe = copy.deepcopy(module).eval()
    for path in paths:
        probe.get_submodule(path).register_forward_hook(hook(path))
    with torch.no_grad():
        probe(*inputs)
    return counts
