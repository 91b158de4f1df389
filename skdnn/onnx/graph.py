"""An ONNX graph while it is written: nodes, constants and unique names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET, ML_OPSET = 13, 2
"""The versions of ONNX's operators that are written.

From 13 on, ``ReduceSum`` and ``Unsqueeze`` take their axes as inputs; all later versions read these
nodes the same way, so that they fit into a graph of any of them. 2 is the first whose
``LabelEncoder`` looks up strings and integers.
"""

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
BOOL, STRING = TensorProto.BOOL, TensorProto.STRING

LARGEST_INT64 = 2**63 - 1


def is_unicode(text: str) -> bool:
    """Say whether a text can be written in UTF-8, as ONNX does: without lone surrogates."""
    return text.encode("utf-8", "ignore").decode() == text


class Input(NamedTuple):
    """A tensor of some columns of a table, (n_samples, n_columns)."""

    name: str
    type: int  # of TensorProto
    n_columns: int


class Graph:
    """Nodes and constants, in the order in which they are written.

    Parameters
    ----------
    prefix : str
        What the names begin with that nobody has given.

    Attributes
    ----------
    nodes : list of NodeProto
    initializers : list of TensorProto
    """

    def __init__(self, prefix: str) -> None:
        self._prefix, self._n_names = prefix, 0
        self._constants: dict[Any, str] = {}
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def node(
        self,
        op_type: str,
        *inputs: Any,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node with one output, and return the output's name.

        Inputs are names of tensors, or arrays, which become constants.
        """
        inputs = tuple(x if isinstance(x, str) else self.constant(x) for x in inputs)
        name = name or self._new_name(op_type)
        node = helper.make_node(op_type, inputs, [name], name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def cast(self, x: str, to: int) -> str:
        """Convert a tensor to another type."""
        return self.node("Cast", x, to=to)

    def concat(self, parts: list[str], axis: int) -> str:
        """Join tensors along an axis."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=axis)

    def constant(self, array: Any) -> str:
        """Return the name of a constant; equal ones are one."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = self._new_name("constant")
            is_text = array.dtype.kind == "U"
            array = array.astype(object) if is_text else array.copy()
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def _new_name(self, kind: str) -> str:
        self._n_names += 1
        return f"{self._prefix}_{kind}_{self._n_names}"
