"""Matrix products whose rows are the same numbers bit for bit, however many rows there are."""

from __future__ import annotations

from torch import Tensor


def row_product(rows: Tensor, matrix: Tensor) -> Tensor:
    r"""The matrix product, summed from the first term to the last.

    ``rows @ matrix`` leaves the order of the sum to a library that chooses its method by the size of the problem, so
    that a row's last digit, and whatever is decided by comparing with it, would depend on how many rows there are.

    Args:
        rows: Shape (n, k).
        matrix: Shape (k, m).

    Returns:
        The product, with shape (n, m).
    """
    total = rows[:, :1] * matrix[0]
    for i in range(1, len(matrix)):
        total = total + rows[:, i : i + 1] * matrix[i]
    return total
