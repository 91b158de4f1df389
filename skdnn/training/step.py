"""A step of training, as formulas: forward pass, gradient of the loss, backward pass, update."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ..engine.formula import Formula, TakeBits
from ..engine.ops import Shape, lerp, ones_like
from ..nn import Context, Sequential
from ..nn.losses import Loss
from ..nn.network import Layout, Network
from ..optim.solvers import Optimizer

Arrays = dict[str, Any]


def training_step(
    layers: Sequential,
    layout: Layout,
    loss: Loss,
    optimizer: Optimizer | None,
    arrays: Arrays,
    take_bits: TakeBits,
) -> Arrays:
    """Return the logits of a batch, and all that changes in a step, by the names of the inputs.

    Without an optimizer, the gradient is returned in place of what it would change.
    """
    x, y, weight = arrays["x"], arrays["y"], arrays.get("weight")
    params = layout.unflatten(arrays["params"], arrays.get("statistics"))
    ctx = Context(True, weight, take_bits)
    logits = layers.forward(x, params, ctx)[:, 0]  # forward pass
    grad_logits = loss.gradient(y, logits, weight)  # gradient of the loss
    _, grads = layers.backward(grad_logits[:, None], x, params, ctx)  # backward pass
    outputs = {"logits": logits, "grads": layout.flatten(grads)}
    if "statistics" in arrays:
        values = layers.statistics(x, params, ctx)
        outputs["statistics"] = layout.flatten_statistics(values, params)
    if optimizer is not None:
        outputs |= _update(optimizer, outputs.pop("grads"), arrays)  # update
    for name in ("params", "statistics"):  # moving averages
        if f"ema_{name}" in arrays:
            ema, share = arrays[f"ema_{name}"], arrays["scalars"][-1]
            outputs[f"ema_{name}"] = lerp(ema, outputs[name], share)
    return outputs


def predict_logits(layers: Sequential, layout: Layout, arrays: Arrays, _: TakeBits) -> Arrays:
    """Return the logits of some rows."""
    params = layout.unflatten(arrays["params"], arrays.get("statistics"))
    return {"logits": layers.forward(arrays["x"], params, Context())[:, 0]}


def differentiate_logits(layers: Sequential, layout: Layout, arrays: Arrays, _: TakeBits) -> Arrays:
    """Return the logits of some rows, and their gradients by the rows."""
    x, params = arrays["x"], layout.unflatten(arrays["params"], arrays.get("statistics"))
    logits = layers.forward(x, params, Context())
    grad_x = layers.backward(ones_like(logits), x, params, Context())[0]
    return {"logits": logits[:, 0], "grad_x": grad_x}


def _update(optimizer: Optimizer, grads: Any, arrays: Arrays) -> Arrays:
    """Return the new parameters, and the new state of the optimizer."""
    scalars, state, outputs = Arrays(), Arrays(), Arrays()
    for i, name in enumerate(_scalar_names(optimizer)):
        scalars[name] = arrays["scalars"][i]
    for name, array in arrays.items():
        if name.startswith("optimizer."):
            state[name.removeprefix("optimizer.")] = array
    outputs["params"], state = optimizer.update(grads, arrays["params"], state, scalars)
    for name, array in state.items():
        outputs[f"optimizer.{name}"] = array
    return outputs


def _scalar_names(optimizer: Optimizer) -> list[str]:
    """Return the names of the numbers that depend on the step, in their order."""
    return list(optimizer.prepare(np.ones(1, int), np.ones(1)))


def training_formula(
    network: Network,
    layers: Sequential,
    n_samples: int,
    *,
    is_sparse: bool,
    loss: Loss,
    optimizer: Optimizer | None,
    state_names: Iterable[str],
    is_weighted: bool,
    has_ema: bool = False,
) -> Formula:
    """Return the formula of a step on a batch of so many rows.

    Without an optimizer, it is that of the gradient of their mean loss.
    """
    shapes = _input_shapes(network, n_samples)
    names = ["params", "statistics"] if "statistics" in shapes else ["params"]
    shapes["y"] = (n_samples,)
    if is_weighted:
        shapes["weight"] = (n_samples,)
    if optimizer is None:
        shapes["grads"] = shapes["params"]
    else:
        shapes["scalars"] = (len(_scalar_names(optimizer)) + has_ema,)
        for name in state_names:
            shapes[f"optimizer.{name}"] = shapes["params"]
        for name in names if has_ema else ():
            shapes[f"ema_{name}"] = shapes[name]
    function = partial(training_step, layers, network.layout, loss, optimizer)
    return Formula(function, shapes, is_sparse)


def prediction_formula(
    network: Network, layers: Sequential, n_samples: int, *, is_sparse: bool
) -> Formula:
    """Return the formula of the logits of so many rows."""
    function = partial(predict_logits, layers, network.layout)
    return Formula(function, _input_shapes(network, n_samples), is_sparse)


def gradient_formula(
    network: Network, layers: Sequential, n_samples: int, *, is_sparse: bool
) -> Formula:
    """Return the formula of the logits of so many rows, and of their gradients by the rows."""
    function = partial(differentiate_logits, layers, network.layout)
    shapes = _input_shapes(network, n_samples)
    return Formula(function, shapes | {"grad_x": shapes["x"]}, is_sparse)


def view_state(layout: Layout, params: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """View the flat parameters of members as inputs of a program."""
    state = {f"{prefix}params": params[:, : layout.n_trainable]}
    if layout.n_params > layout.n_trainable:
        state[f"{prefix}statistics"] = params[:, layout.n_trainable :]
    return state


def _input_shapes(network: Network, n_samples: int) -> dict[str, Shape]:
    """Return the shapes of what a prediction needs, and of its logits."""
    layout = network.layout
    shapes: dict[str, Shape] = {
        "params": (layout.n_trainable,),
        "x": (n_samples, network.n_in),
        "logits": (n_samples,),
    }
    if layout.n_params > layout.n_trainable:
        shapes["statistics"] = (layout.n_params - layout.n_trainable,)
    return shapes
