"""The kernels by number, as the rows of a table name them."""

from enum import IntEnum

Kernel = IntEnum(
    "Kernel",
    # Of each element by itself: of one operand, of two, and of more.
    "copy negative absolute sign square sqrt exp expm1 log log1p tanh sin cos erf sigmoid "
    "add subtract multiply divide power maximum minimum "
    "greater greater_equal less less_equal equal not_equal silu_slope "
    "where lerp add_scaled dropout_mask "
    # Of whole arrays.
    "group repeat copy_box transpose sum dot product take_rows scatter_add csr_matmul "
    "csr_transposed_matmul cos_and_sin_turns piecewise_linear grad_lines adam_direction",
    start=0,
)
"""Each has the name of the operation that it computes, if there is one."""

FUSED = frozenset(
    {
        *("sigmoid", "silu_slope", "lerp", "add_scaled", "adam_direction"),
        *("cos_and_sin_turns", "piecewise_linear", "grad_lines"),
    }
)
"""Names of the fused operations that have a kernel: what a `Trace` is to record as they are."""

N_COLUMNS = 41
"""Numbers in a row of the table: for ten operands, an offset and three lengths each."""
