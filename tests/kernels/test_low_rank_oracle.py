"""Tucker and CP against tensorly: no worse a fit at the same rank, from the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorly
from tensorly.decomposition import parafac, partial_tucker

from edgezip.kernels import low_rank

Array = np.ndarray[Any, Any]


def _weights(seed: int, outputs: int, window: tuple[int, int], channels: int) -> Array:
    """A few strong components and noise, as trained convolutions have them."""
    generator = np.random.default_rng(seed)
    sides = [generator.standard_normal((n, 4)) for n in (outputs, *window, channels)]
    made = np.einsum("or,hr,wr,cr->ohwc", *sides)
    return np.asarray(made + 0.5 * made.std() * generator.standard_normal(made.shape))


def _error(made: Array, held: Array) -> float:
    return float(((made - held) ** 2).sum() / (held**2).sum())


@pytest.mark.parametrize("ranks", [(4, 4), (8, 6), (16, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_tucker_fits_as_well_as_tensorly(seed: int, ranks: tuple[int, int]) -> None:
    held = _weights(seed, 24, (3, 3), 16).reshape(24, 9, 16)
    out, core, inside = low_rank.tucker2(held, *ranks)
    (peer_core, peer_factors), _ = partial_tucker(
        tensorly.tensor(held), rank=list(ranks), modes=[0, 2], n_iter_max=100, tol=1e-9, init="svd"
    )
    peer = np.einsum("or,rws,cs->owc", peer_factors[0], peer_core, peer_factors[1])
    assert _error(np.einsum("or,rws,sc->owc", out, core, inside), held) <= _error(peer, held) * (1 + 1e-5)


@pytest.mark.parametrize("rank", [2, 4, 10])
@pytest.mark.parametrize("seed", range(2))
def test_cp_fits_as_well_as_tensorly(seed: int, rank: int) -> None:
    """The ridge costs a little fit and keeps components small: within 2 % of plain alternation, never with larger norms."""
    held = _weights(seed, 24, (3, 3), 16)
    factors = low_rank.cp(held, rank)
    peer = parafac(tensorly.tensor(held), rank, n_iter_max=200, tol=1e-9, init="svd", random_state=0)
    mine, theirs = _error(low_rank.cp_product(factors), held), _error(tensorly.cp_to_tensor(peer), held)
    assert mine <= theirs * 1.02
    norms = [float(np.prod([np.linalg.norm(f, axis=0) for f in each], axis=0).max()) for each in (factors, peer.factors)]
    assert norms[0] <= 1.1 * max(norms[1], float(np.sqrt((held**2).sum())))
