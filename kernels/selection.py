"""What the operators of detectors and the rare ones compute, to the bit. NumPy, slow and plain."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgezip.kernels import double_functions

Array = np.ndarray[Any, Any]
F32 = np.float32
MOST_SAMPLES = 256  # of ops/roi_align.c


def _canonical(y: Array) -> Array:
    """Every NaN of a float32 array the same."""
    return np.where(np.isnan(y), F32(np.nan), y).astype(F32)


# --- whole numbers --------------------------------------------------------------------------------


def _power(a: Array, b: Array) -> Array:
    """a^b modulo 2^64 (int64 arrays); of a negative exponent only 1 and -1 leave something."""
    result, factor, rest = np.ones_like(a), a.copy(), np.maximum(b, 0)
    while (rest > 0).any():
        result = np.where(rest & 1, result * factor, result)
        factor, rest = factor * factor, rest >> 1
    negative = np.where(a == 1, 1, np.where(a == -1, np.where(b & 1, -1, 1), 0))
    return np.where(b < 0, negative, result)


def integer(kind: str, a: Array, b: Array) -> Array:
    """The operator on two arrays of one dtype; comparisons give bool, all else the dtype, modulo its width."""
    if a.dtype == np.float32:
        with np.errstate(all="ignore"):
            if kind in ("FMOD", "MOD"):
                rest = np.fmod(a, b)
                signed = np.where(rest == 0, np.copysign(F32(0), b), np.where((rest < 0) != (b < 0), rest + b, rest))
                return _canonical(rest if kind == "FMOD" else signed)
            return _canonical(double_functions.power(a.astype(np.float64), b.astype(np.float64)).astype(F32))
    bits, u, v = a.dtype.itemsize * 8, a.astype(np.int64), b.astype(np.int64)
    safe = np.where((v == 0) | (v == -1), 1, v)
    quotient = np.where(u % safe != 0, np.where((u < 0) != (safe < 0), u // safe + 1, u // safe), u // safe)
    with np.errstate(all="ignore"):
        made: dict[str, Any] = {
            "ADD": lambda: u + v, "SUB": lambda: u - v, "MUL": lambda: u * v,
            "DIV": lambda: np.where(v == 0, 0, np.where(v == -1, -u, quotient)),
            "MIN": lambda: np.minimum(u, v), "MAX": lambda: np.maximum(u, v),
            "EQUAL": lambda: u == v, "LESS": lambda: u < v, "LESS_EQUAL": lambda: u <= v, "GREATER": lambda: u > v,
            "GREATER_EQUAL": lambda: u >= v, "AND": lambda: u & v, "OR": lambda: u | v, "XOR": lambda: u ^ v,
            "MOD": lambda: np.where((v == 0) | (v == -1), 0, u % safe),
            "FMOD": lambda: np.where((v == 0) | (v == -1), 0, u - quotient * safe),
            "SHIFT_LEFT": lambda: np.where((v < 0) | (v >= bits), 0, u << np.clip(v, 0, 63)),
            "SHIFT_RIGHT": lambda: u >> np.where((v < 0) | (v > 63), 63, v),
            "POW": lambda: _power(u, v),
        }  # fmt: skip
        result: Array = np.asarray(made[kind]())
    return result if result.dtype == np.bool_ else result.astype(a.dtype)


def math(kind: str, x: Array, alpha: float, beta: float) -> Array:
    """A rare function of float32, or of whole numbers."""
    if kind == "IS_NAN":
        return np.isnan(x)
    if kind == "IS_INF":
        return np.isinf(x) & np.where(x < 0, bool(alpha), bool(beta))
    if x.dtype == np.float32:
        return double_functions.apply(kind, x, alpha, beta)
    whole = x.astype(np.int64)
    made = {"SIGN": np.sign(whole), "ABS": np.where(whole < 0, -whole, whole), "NEG": -whole, "BIT_NOT": ~whole}[kind]
    return np.asarray(made).astype(x.dtype)


def arg(x: Array, is_max: bool, last: bool) -> Array:
    """Index of the extreme along axis 1 of (outer, n, inner)."""
    best, index = x[:, 0].copy(), np.zeros((x.shape[0], x.shape[2]), np.int64)
    for row in range(1, x.shape[1]):
        v = x[:, row]
        taken = (v > best) if is_max else (v < best)
        taken = taken | (v == best) if last else taken
        best, index = np.where(taken, v, best), np.where(taken, row, index)
    return index


def fold(x: Array, kind: str) -> Array:
    """(outer, n, inner) -> (outer, inner)."""
    if kind in ("MAX", "MIN"):
        return np.asarray(x.max(1) if kind == "MAX" else x.min(1))
    total = x[:, 0].copy()
    with np.errstate(all="ignore"):
        for row in range(1, x.shape[1]):
            total = total + x[:, row] if kind == "SUM" else total * x[:, row]
    return total


def cumulate(x: Array, is_sum: bool, exclusive: bool, reverse: bool) -> Array:
    """Running sums or products along axis 1."""
    y, total = np.empty_like(x), np.full((x.shape[0], x.shape[2]), 0 if is_sum else 1, x.dtype)
    with np.errstate(all="ignore"):
        for row in range(x.shape[1] - 1, -1, -1) if reverse else range(x.shape[1]):
            after = total + x[:, row] if is_sum else total * x[:, row]
            y[:, row] = total if exclusive else after
            total = after
    return y


# --- addresses ------------------------------------------------------------------------------------


def addresses(index: Array, p: dict[str, Any]) -> Array:
    """First element that each row of the index names, int64 (rows,)."""
    held = index.reshape(p["rows"], -1).astype(np.int64)
    if p["axis"] < 0:
        at = np.arange(p["rows"]) // p["batch_rows"] * p["batch_stride"]
        for k in range(p["depth"]):
            at = at + _inside(held[:, k], p["extents"][k]) * p["strides"][k]
        return np.asarray(at)
    at, places = np.zeros(p["rows"], np.int64), np.indices(p["dims"][: p["rank"]]).reshape(p["rank"], -1)
    for axis in range(p["rank"]):
        where = _inside(held[:, 0], p["extents"][axis]) if axis == p["axis"] else places[axis]
        at = at + where * p["strides"][axis]
    return at


def _inside(index: Array, extent: int) -> Array:
    return np.clip(np.where(index < 0, np.where(index < -extent, 0, index + extent), index), 0, extent - 1)


def scatter(data: Array, at: Array, updates: Array, reduction: str) -> Array:
    """``data`` (flat) with ``updates`` (rows, inner) written from ``at`` on, in order."""
    y = data.copy()
    joins: dict[str, Any] = {
        "SET": lambda a, b: b, "ADD": lambda a, b: a + b, "MUL": lambda a, b: a * b,
        "MIN": lambda a, b: np.where(a < b, a, b), "MAX": lambda a, b: np.where(a > b, a, b),
    }  # fmt: skip
    with np.errstate(all="ignore"):
        for row, start in enumerate(at):
            end = int(start) + updates.shape[1]
            y[int(start) : end] = joins[reduction](y[int(start) : end], updates[row])
    return y


# --- windows and interpolation --------------------------------------------------------------------


def window(x: Array, p: dict[str, Any], kind: str) -> tuple[Array, Array]:
    """Pooling of (planes, D, H, W) over three axes; the values and the places of maxima."""
    sizes = {
        name: tuple(p[f"{name}_{axis}"] for axis in "dhw")
        for name in ("in", "out", "kernel", "stride", "dilation", "pad", "pad_end")
    }
    shape = (x.shape[0], *sizes["out"])
    total, count, padded = np.zeros(shape, F32), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    best, place = np.full(shape, -np.inf, F32), np.full(shape, -1, np.int64)
    plane = np.arange(x.shape[0]).reshape(-1, 1, 1, 1) * int(np.prod(sizes["in"]))
    with np.errstate(all="ignore"):
        for taps in np.ndindex(*sizes["kernel"]):
            where = [
                np.arange(sizes["out"][k]) * sizes["stride"][k] - sizes["pad"][k] + taps[k] * sizes["dilation"][k]
                for k in range(3)
            ]
            inside = _all(*[(w >= 0) & (w < sizes["in"][k]) for k, w in enumerate(where)])
            padded += _all(*[w < sizes["in"][k] + sizes["pad_end"][k] for k, w in enumerate(where)])
            d, h, w = np.meshgrid(*[np.clip(w, 0, sizes["in"][k] - 1) for k, w in enumerate(where)], indexing="ij")
            v = x[:, d, h, w].astype(F32)
            index = (d * sizes["in"][1] + h) * sizes["in"][2] + w
            index = (w * sizes["in"][1] + h) * sizes["in"][0] + d if p["column_major"] else index
            better = inside & ((place < 0) | (v > best))
            best, place = np.where(better, v, best), np.where(better, plane + index, place)
            total = np.where(inside, total + _term(v, kind, p["power"]), total)
            count += inside
    if kind == "MAX":
        return best, place
    if kind == "AVERAGE":
        return total / np.maximum(padded if p["include"] else count, 1).astype(F32), place
    with np.errstate(all="ignore"):
        if p["power"] > 2:
            total = double_functions.power(total.astype(np.float64), np.float64(1.0) / p["power"]).astype(F32)
        return np.sqrt(total) if p["power"] == 2 else total, place


def _all(a: Array, b: Array, c: Array) -> Array:
    return a[:, None, None] & b[None, :, None] & c[None, None, :]


def _term(v: Array, kind: str, power: int) -> Array:
    if kind == "AVERAGE":
        return v
    if power <= 2:
        return np.abs(v) if power == 1 else v * v
    return double_functions.power(np.abs(v).astype(np.float64), np.float64(power)).astype(F32)


def interpolate(x: Array, index: Array, weight: Array, base: Array) -> Array:
    """Weighted sums along axis 1 of (outer, n, inner), taps ascending; a weight of 0 leaves its term out."""
    y = np.broadcast_to(base[None, :, None], (x.shape[0], len(base), x.shape[2])).astype(F32)
    index = np.clip(index, 0, x.shape[1] - 1)
    with np.errstate(all="ignore"):
        for tap in range(index.shape[1]):
            w = weight[:, tap][None, :, None]
            y = np.where(w == 0, y, y + w * x[:, index[:, tap]])
    return y


# --- sampling -------------------------------------------------------------------------------------


def _reflected(x: Array, low: float, high: float) -> Array:
    span = F32(F32(high) - F32(low))
    if not span > 0:
        return np.full_like(x, F32(low))
    away = np.where(x < F32(low), F32(low) - x, np.where(x > F32(high), x - F32(high), F32(0)))
    turns = np.trunc(away / span)
    rest, half = away - turns * span, turns * F32(0.5)
    odd = half != np.trunc(half)
    return np.where(away == 0, x, np.where((x < F32(low)) == ~odd, F32(low) + rest, F32(high) - rest)).astype(F32)


def _ends(align: bool, size: int) -> tuple[float, float]:
    return (0.0, float(size - 1)) if align else (-0.5, size - 0.5)


def _taps(g: Array, size: int, mode: str, border: str, align: bool) -> tuple[Array, Array]:
    """Indices (taps, points), -1 for what reads zero, and float32 weights."""
    x = (g + F32(1)) * F32(0.5) * F32(size - 1) if align else ((g + F32(1)) * F32(size) - F32(1)) * F32(0.5)
    x = np.where(x > F32(-16777216), x, F32(-16777216))
    x = np.where(x < F32(16777216), x, F32(16777216)).astype(F32)
    if border == "EDGE" and mode != "CUBIC":
        x = np.where(x > 0, x, F32(0))
        x = np.where(x < F32(size - 1), x, F32(size - 1)).astype(F32)
    elif border == "REFLECTION" and mode != "CUBIC":
        x = _reflected(x, *_ends(align, size))
    below = np.floor(x)
    t = (x - below).astype(F32)
    if mode == "NEAREST":
        return _tap(np.rint(x).astype(np.int64), size, border, align)[None], np.ones((1, len(x)), F32)
    first = below.astype(np.int64)
    if mode == "LINEAR":
        return np.stack([_tap(first + i, size, border, align) for i in range(2)]), np.stack([F32(1) - t, t])
    a, u, v, w = F32(-0.75), t + F32(1), F32(1) - t, F32(2) - t
    weights = [
        ((a * u - F32(5) * a) * u + F32(8) * a) * u - F32(4) * a,
        ((a + F32(2)) * t - (a + F32(3))) * t * t + F32(1),
        ((a + F32(2)) * v - (a + F32(3))) * v * v + F32(1),
        ((a * w - F32(5) * a) * w + F32(8) * a) * w - F32(4) * a,
    ]
    return np.stack([_tap(first - 1 + i, size, border, align) for i in range(4)]), np.stack(weights)


def _tap(i: Array, size: int, border: str, align: bool) -> Array:
    out = (i < 0) | (i >= size)
    if border == "ZEROS":
        return np.where(out, -1, i)
    far = _reflected(i.astype(F32), *_ends(align, size)).astype(np.int64) if border == "REFLECTION" else i
    return np.where(out, np.clip(far, 0, size - 1), i)


def grid_sample(x: Array, grid: Array, mode: str, border: str, align: bool) -> Array:
    """x (N, C, D, H, W) at grid (N, points, axes), the last axis first -> (N, C, points)."""
    made = np.zeros((*x.shape[:2], grid.shape[1]), F32)
    with np.errstate(all="ignore"):
        for n in range(x.shape[0]):
            count = grid.shape[1]
            along = [(np.zeros((1, count), np.int64), np.ones((1, count), F32))] * (3 - grid.shape[2])
            along += [_taps(grid[n, :, k], x.shape[4 - k], mode, border, align) for k in range(grid.shape[2])][::-1]
            total = np.zeros((x.shape[1], count), F32)
            for a, wa in zip(*along[0], strict=True):
                plane = np.zeros_like(total)
                for b, wb in zip(*along[1], strict=True):
                    line = np.zeros_like(total)
                    for c, wc in zip(*along[2], strict=True):
                        v = np.where(
                            (a < 0) | (b < 0) | (c < 0), F32(0), x[n][:, np.maximum(a, 0), np.maximum(b, 0), np.maximum(c, 0)]
                        )
                        line = line + wc * v
                    plane = plane + wb * line
                total = total + wa * plane
            made[n] = total
    return _canonical(made)


def top_k(x: Array, k: int, largest: bool) -> tuple[Array, Array]:
    """Best first along axis 1 of (outer, n, inner): values, int64 indices; NaN is the largest, equal ones by index."""
    if x.dtype.kind == "f":
        order = np.lexsort(
            (np.where(np.isnan(x), F32(0), -x if largest else x), ~np.isnan(x) if largest else np.isnan(x)), axis=1
        )
    else:
        wide = x.astype(np.int64)
        order = np.argsort(~wide if largest else wide, axis=1, kind="stable")
    index = order[:, :k].astype(np.int64)
    return np.take_along_axis(x, index, 1), index


def nms(boxes: Array, scores: Array, most: int, iou: float, score: float, center: bool) -> list[tuple[int, int, int]]:
    """(batch, class, box) of what is kept, best first in each class."""
    kept = []
    with np.errstate(all="ignore"):
        corners = _corners(boxes, center)
        for n, c in np.ndindex(*scores.shape[:2]):
            alive = scores[n, c] > F32(score)
            for _ in range(most):
                if not alive.any():
                    break
                best = _first_best(scores[n, c], alive)
                kept.append((n, c, best))
                alive[best] = False
                alive &= ~_overlaps(corners[:, n, best], corners[:, n], F32(iou))
    return kept


def _first_best(scores: Array, alive: Array) -> int:
    best = -1
    for i in np.flatnonzero(alive):
        if best < 0 or scores[i] > scores[best]:
            best = int(i)
    return best


def _corners(b: Array, center: bool) -> Array:
    """(4, batch, boxes): top, left, bottom, right."""
    b = b.astype(F32)
    if center:
        x, y, w, h = (b[..., i] for i in range(4))
        half = F32(0.5)
        return np.stack([y - h * half, x - w * half, y + h * half, x + w * half])
    low = [np.where(b[..., i] < b[..., i + 2], b[..., i], b[..., i + 2]) for i in range(2)]
    return np.stack([*low, *[np.where(b[..., i] > b[..., i + 2], b[..., i], b[..., i + 2]) for i in range(2)]])


def _overlaps(a: Array, b: Array, threshold: Any) -> Array:
    """Whether box ``a`` (4,) overlaps each of ``b`` (4, boxes) by more than the threshold."""
    top, left = (np.where(a[i] > b[i], a[i], b[i]) for i in range(2))
    bottom, right = (np.where(a[i] < b[i], a[i], b[i]) for i in range(2, 4))
    height, width = bottom - top, right - left
    shared = height * width
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return (height > 0) & (width > 0) & (shared / ((area_a + area_b) - shared) > threshold)


def _spots(x: Array, size: int) -> tuple[Array, Array, Array, Array]:
    out = ~((x >= F32(-1)) & (x <= F32(size)))
    x = np.where(x > 0, x, F32(0))
    low = np.where(out, 0, x).astype(np.int64)
    end = low >= size - 1
    return (
        np.where(end, size - 1, low),
        np.where(end, size - 1, low + 1),
        np.where(end, F32(0), x - low.astype(F32)).astype(F32),
        out,
    )


def roi_align(x: Array, rois: Array, batch: Array, p: dict[str, Any]) -> Array:
    """x (N, C, H, W), rois (R, 4) -> (R, C, out_h, out_w)."""
    height, width = x.shape[2:]
    made = np.zeros((len(rois), x.shape[1], p["out_h"], p["out_w"]), F32)
    scale, offset = F32(p["scale"]), F32(p["offset"])
    with np.errstate(all="ignore"):
        for r, roi in enumerate(rois.astype(F32)):
            left, top = roi[0] * scale - offset, roi[1] * scale - offset
            wide, tall = (roi[2] * scale - offset) - left, (roi[3] * scale - offset) - top
            if offset == 0:
                wide, tall = (v if v > F32(1) else F32(1) for v in (wide, tall))
            bins = F32(tall / F32(p["out_h"])), F32(wide / F32(p["out_w"]))
            down, across = (_samples(b, p["sampling"]) for b in bins)
            planes = x[int(np.clip(batch[r], 0, x.shape[0] - 1))]
            for oy, ox in np.ndindex(p["out_h"], p["out_w"]):
                rows = _places(top, oy, bins[0], down)
                columns = _places(left, ox, bins[1], across)
                made[r, :, oy, ox] = _bin(planes, _spots(rows, height), _spots(columns, width), p["is_max"])
    return _canonical(made)


def _samples(size: Any, asked: int) -> int:
    wanted = np.ceil(size)
    return asked or (int(min(wanted, MOST_SAMPLES)) if wanted > 1 else 1)


def _places(start: Any, number: int, size: Any, count: int) -> Array:
    steps = np.arange(count, dtype=F32) + F32(0.5)
    return ((start + F32(number) * size) + steps * size / F32(count)).astype(F32)


def _bin(planes: Array, rows: tuple[Array, ...], columns: tuple[Array, ...], is_max: bool) -> Array:
    total = np.zeros(planes.shape[0], F32)
    for a in range(len(rows[0])):
        for b in range(len(columns[0])):
            h, w = rows[2][a], columns[2][b]
            g, v = F32(1) - h, F32(1) - w
            corners = [
                (g * v) * planes[:, rows[0][a], columns[0][b]], (g * w) * planes[:, rows[0][a], columns[1][b]],
                (h * v) * planes[:, rows[1][a], columns[0][b]], (h * w) * planes[:, rows[1][a], columns[1][b]],
            ]  # fmt: skip
            if is_max:
                pair = [np.where(corners[i] > corners[i + 1], corners[i], corners[i + 1]) for i in (0, 2)]
                value = np.where(pair[0] > pair[1], pair[0], pair[1])
            else:
                value = ((corners[0] + corners[1]) + corners[2]) + corners[3]
            value = np.zeros_like(value) if rows[3][a] or columns[3][b] else value
            total = (value if a == b == 0 else np.where(value > total, value, total)) if is_max else total + value
    return total if is_max else total / F32(len(rows[0]) * len(columns[0]))


# --- different slices -----------------------------------------------------------------------------


def unique(x: Array, is_sorted: bool) -> tuple[Array, Array, Array, Array]:
    """First places, inverse, counts (n entries each, 0 beyond the number of groups) and that number, of the slices of axis 1.

    ``x`` is (outer, n, inner). NaN is equal to NaN and behind all numbers; groups stand in ascending order, or in that of their
    first occurrence.
    """
    n = x.shape[1]
    keys = [tuple((bool(v != v), 0 if v != v else v) for v in x[:, row].reshape(-1).tolist()) for row in range(n)]
    groups = list(dict.fromkeys(keys))
    number = {key: place for place, key in enumerate(sorted(groups) if is_sorted else groups)}
    inverse = np.asarray([number[key] for key in keys], np.int64)
    first, counts = np.zeros(n, np.int64), np.bincount(inverse, minlength=n).astype(np.int64)
    for row in range(n - 1, -1, -1):
        first[inverse[row]] = row
    return first, inverse, counts, np.asarray([len(groups)], np.int64)
