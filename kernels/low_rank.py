"""Matrices and convolution weights as products of thin ones. float64; arrays in, arrays out.

svd        W (outputs, K) ~ left (outputs, r) right (r, K), the least squared error of W, or of the outputs when the second
           moment of the inputs is given ("whitened": Wang et al., "SVD-LLM", 2024).
tucker2    weights (outputs, window, channels) ~ out (outputs, r1) x core (r1, window, r2) x in (r2, channels); Kim et al., 2016.
cp         weights (outputs, kh, kw, channels) ~ sum of R outer products of four vectors; Lebedev et al., 2015.
rank_by_energy, evbmf_rank   how many terms; the latter is Nakajima et al., "Global analytic solution of fully-observed
           variational Bayesian matrix factorization", 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DAMPING = 1e-4  # of the mean diagonal of a second moment, before its root is inverted
SWEEPS = 200
RIDGE = 1e-3  # of the mean diagonal of the normal equations of CP: keeps components from growing against each other
STARTS = 3


def svd(weights: Array, rank: int, hessian: Array | None = None) -> tuple[Array, Array]:
    """(left (outputs, rank), right (rank, K)): the best product of that rank; ``hessian`` (K, K) = E[x x^T] weighs the error."""
    held = weights.astype(np.float64)
    root, inverse = (None, None) if hessian is None else roots(hessian)
    u, s, v = np.linalg.svd(held if root is None else held @ root, full_matrices=False)
    half = np.sqrt(s[:rank])
    right = half[:, None] * v[:rank]
    return u[:, :rank] * half, right if inverse is None else right @ inverse


def singular_values(weights: Array, hessian: Array | None = None) -> Array:
    """Of the matrix that ``svd`` cuts, falling; their squares beyond a rank add up to the error that it leaves."""
    held = weights.astype(np.float64)
    return np.asarray(np.linalg.svd(held if hessian is None else held @ roots(hessian)[0], compute_uv=False))


def roots(hessian: Array) -> tuple[Array, Array]:
    """The symmetric square root of a damped second moment (K, K), and its inverse."""
    values, vectors = np.linalg.eigh(hessian.astype(np.float64))
    damped = np.maximum(values, 0) + DAMPING * max(float(np.mean(np.maximum(values, 0))), 1e-30)
    return vectors * np.sqrt(damped) @ vectors.T, vectors / np.sqrt(damped) @ vectors.T


def rank_by_energy(values: Array, share: float) -> int:
    """The least rank whose singular values hold ``share`` of the sum of squares."""
    energy = np.cumsum(values**2)
    return int(np.searchsorted(energy, share * energy[-1]) + 1) if energy[-1] > 0 else 1


# ---------------------------------------------------------------- convolutions


def tucker2(weights: Array, outputs_rank: int, channels_rank: int, sweeps: int = SWEEPS) -> tuple[Array, Array, Array]:
    """(out (outputs, r1), core (r1, window, r2), in (r2, channels)) of (outputs, window, channels); both factors orthonormal.

    Higher-order orthogonal iteration from the singular vectors of the two unfoldings, until the core grows no more.
    """
    held = weights.astype(np.float64)
    channels = _leading(np.moveaxis(held, 2, 0).reshape(held.shape[2], -1), channels_rank)
    outputs = _leading(held.reshape(len(held), -1), outputs_rank)
    energy = 0.0
    for _ in range(sweeps):
        outputs = _leading((held @ channels).reshape(len(held), -1), outputs_rank)
        inner = np.einsum("owc,or->rwc", held, outputs)
        channels = _leading(np.moveaxis(inner, 2, 0).reshape(held.shape[2], -1), channels_rank)
        before, energy = energy, float(((inner @ channels) ** 2).sum())
        if energy <= before * (1 + 1e-9):
            break
    core = np.einsum("owc,or,cs->rws", held, outputs, channels)
    return outputs, core, np.ascontiguousarray(channels.T)


def _leading(matrix: Array, rank: int) -> Array:
    """(rows, rank): the leading left singular vectors, by the smaller of the two Gram matrices' sides."""
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    return np.ascontiguousarray(vectors[:, np.argsort(-values)[:rank]])


def cp(weights: Array, rank: int, sweeps: int = 100, seed: int = 0) -> list[Array]:
    """Factors (side, rank) of (outputs, kh, kw, channels), one for each axis, whose outer products add up to it.

    Alternating least squares with a ridge, the best of some starts (one from singular vectors, others at random but fixed): plain
    alternation drifts into components that cancel each other (de Silva and Lim, 2008).
    """
    held = weights.astype(np.float64)
    generator = np.random.default_rng(seed)
    best, least = _cp_start(held, rank, None), np.inf
    for start in range(STARTS):
        factors = _cp_start(held, rank, generator if start else None)
        for _ in range(sweeps):
            for axis in range(held.ndim):
                factors[axis] = _cp_update(held, factors, axis)
        error = float(((cp_product(factors) - held) ** 2).sum())
        if error < least:
            best, least = factors, error
    return _balanced(best)


def cp_product(factors: list[Array]) -> Array:
    """The array that CP factors stand for."""
    letters = "abcd"[: len(factors)]
    return np.asarray(np.einsum(",".join(f"{axis}r" for axis in letters) + "->" + letters, *factors, optimize=True))


def _cp_start(held: Array, rank: int, generator: np.random.Generator | None) -> list[Array]:
    factors = []
    for axis, side in enumerate(held.shape):
        noise = np.random.default_rng(axis) if generator is None else generator
        made = noise.standard_normal((side, rank))
        if generator is None:
            u = np.linalg.svd(np.moveaxis(held, axis, 0).reshape(side, -1), full_matrices=False)[0][:, :rank]
            made[:, : u.shape[1]] = u
        factors.append(made)
    return factors


def _cp_update(held: Array, factors: list[Array], axis: int) -> Array:
    """The factor of ``axis`` that is best for the others."""
    others = [i for i in range(held.ndim) if i != axis]
    gram = np.prod([factors[i].T @ factors[i] for i in others], axis=0)
    letters = "abcd"
    terms = ",".join(f"{letters[i]}r" for i in others)
    wanted = np.einsum(f"{letters[: held.ndim]},{terms}->{letters[axis]}r", held, *(factors[i] for i in others), optimize=True)
    gram = gram + np.eye(len(gram)) * RIDGE * max(float(np.diag(gram).mean()), 1e-30)
    return np.asarray(np.linalg.solve(gram, wanted.T).T)


def _balanced(factors: list[Array]) -> list[Array]:
    """The same product with components of one length in all axes."""
    norms = [np.linalg.norm(factor, axis=0) + 1e-30 for factor in factors]
    common = np.prod(norms, axis=0) ** (1 / len(factors))
    return [factor / norm * common for factor, norm in zip(factors, norms, strict=True)]


# ---------------------------------------------------------------- ranks


def evbmf_rank(matrix: Array) -> int:
    """How many singular values stand out of noise whose variance is estimated along; at least 1.

    Nakajima et al., 2013: equation 21 gives the threshold, the free energy of theorem 4 the variance.
    """
    rows, columns = sorted(matrix.shape)
    values = singular_values(matrix)
    alpha = rows / columns
    tau = 2.5129 * np.sqrt(alpha)
    limit = (1 + tau) * (1 + alpha / tau)
    squares = values**2
    spare = max(int(np.ceil(rows / (1 + alpha))) - 1, 0)
    low = max(squares[min(spare + 1, len(squares) - 1)] / (columns * limit), squares[spare:].mean() / columns)
    high = squares.sum() / (rows * columns)
    if not 0 < low < high:
        return max(int((squares > columns * high * limit).sum()), 1)
    variance = _least_energy(squares, rows, columns, limit, low, high)
    return max(int((squares > columns * variance * limit).sum()), 1)


def _least_energy(squares: Array, rows: int, columns: int, limit: float, low: float, high: float) -> float:
    """The noise variance of least free energy, by a fine search on a logarithmic scale (the energy has several valleys)."""
    grid = np.geomspace(low, high, 400)
    return float(grid[np.argmin([_free_energy(squares / (columns * variance), rows, columns, limit) for variance in grid])])


def _free_energy(x: Array, rows: int, columns: int, limit: float) -> float:
    """Of normalised squared singular values; the variance's own term is in their scale (constants left out)."""
    alpha = rows / columns
    signal, noise = x[x > limit], x[x <= limit]
    tau = 0.5 * (signal - (1 + alpha) + np.sqrt((signal - (1 + alpha)) ** 2 - 4 * alpha))
    energy = (noise - np.log(noise)).sum() + (signal - tau).sum() + np.log((tau + 1) / signal).sum()
    return float(energy + alpha * np.log(tau / alpha + 1).sum())
