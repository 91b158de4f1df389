"""The kernels by number, as the rows of a table name them."""

UNARY = (
    *("copy", "negative", "absolute", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p"),
    *("tanh", "sin", "cos", "erf", "sigmoid"),
)
BINARY = (
    *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "silu_slope"),
)
ELEMENTWISE = (*UNARY, *BINARY, "where", "lerp", "add_scaled")
"""Kernels that compute each element by itself; the others work on whole arrays."""

N_UNARY, N_BINARY = len(UNARY), len(BINARY)

# fmt: off
(
    COPY, NEGATIVE, ABSOLUTE, SIGN, SQUARE, SQRT, EXP, EXPM1, LOG, LOG1P,
    TANH, SIN, COS, ERF, SIGMOID,
    ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, MAXIMUM, MINIMUM,
    GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, EQUAL, NOT_EQUAL, SILU_SLOPE,
    WHERE, LERP, ADD_SCALED,
) = range(len(ELEMENTWISE))
(
    GROUP, DROPOUT_MASK, REPEAT,
    COPY_ROWS, TRANSPOSE, SUM, DOT, SMALL_PRODUCT,
    TAKE_ROWS, SCATTER_ADD, CSR_MATMUL, CSR_TRANSPOSED_MATMUL,
    COS_AND_SIN_TURNS, PIECEWISE_LINEAR, GRAD_LINES, ADAM_DIRECTION,
) = range(len(ELEMENTWISE), len(ELEMENTWISE) + 16)
# fmt: on

KERNELS = frozenset(
    {
        *("sigmoid", "silu_slope", "cos_and_sin_turns", "piecewise_linear", "grad_lines"),
        *("adam_direction", "add_scaled", "lerp"),
    }
)
"""Names of the fused operations that have a kernel: what a `Trace` is to record as they are."""

N_COLUMNS = 12
"""Numbers in a row of the table."""
