"""Members side by side in the memory of a program: who, their parameters, and random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.executors import Executable
from ..nn.network import Layout, Network

NUMBERS_AT_ONCE = 1 << 17
"""Numbers that one call of NumPy is to compute, in the widest layer: with fewer, Python takes
longer than NumPy."""

State = dict[str, np.ndarray]
"""Arrays of all members, by the names of a program's inputs."""


def group_members(
    network: Network, members: Sequence[int], n_rows: int, n_threads: int, n_most: int | None
) -> list[list[int]]:
    """Return members that run side by side, in batches of so many rows.

    They have the same layers. `n_most` of them are in a group; None stands for as many as make a
    call of NumPy worth its time.
    """
    n_most = max(1, NUMBERS_AT_ONCE // (n_rows * network.widest)) if n_most is None else n_most
    n_most = min(n_most, -(-len(members) // n_threads))
    by_kind: dict[int, list[int]] = {}
    for member in members:
        by_kind.setdefault(network.kind_of_member(member), []).append(member)
    groups = []
    for alike in by_kind.values():
        n_groups = -(-len(alike) // n_most)
        for first in range(n_groups):
            groups.append(alike[first::n_groups])
    return groups


def view_state(layout: Layout, params: np.ndarray, prefix: str = "") -> State:
    """View the flat parameters of members as inputs of a program."""
    state = {f"{prefix}params": params[:, : layout.n_trainable]}
    if layout.n_params > layout.n_trainable:
        state[f"{prefix}statistics"] = params[:, layout.n_trainable :]
    return state


def load(executable: Executable, state: State, members: list[int]) -> None:
    """Write the state of members into the memory of a program."""
    for name, array in state.items():
        for view, member in zip(executable.views[name], members, strict=True):
            view[...] = array[member]


def store(executable: Executable, state: State, members: list[int]) -> None:
    """Read the state of members from the memory of a program."""
    for name, array in state.items():
        for view, member in zip(executable.views[name], members, strict=True):
            array[member] = view


def draw_bits(
    rngs: Sequence[np.random.Generator], members: list[int], n_steps: int, n_bits: int
) -> np.ndarray | None:
    """Draw random numbers of 16 bits, (n_members, n_steps, n_bits), from the streams of members.

    They are the same ones if each step draws by itself.
    """
    if not n_bits:
        return None
    n_words = -(-n_bits // 4)  # of 64 bits
    words = np.empty((len(members), n_steps * n_words), np.uint64)
    for own, member in zip(words, members, strict=True):
        own[:] = rngs[member].bit_generator.random_raw(n_steps * n_words)
    return words.view(np.uint16).reshape(len(members), n_steps, 4 * n_words)[..., :n_bits]
