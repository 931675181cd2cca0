"""Functions on one row of numbers for the CPU kernel, compiled by numba: exponential, GELU, layer norm, packing.

Sums may be reordered. What is not a number stays so: it never becomes a small number on the way.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.extending import overload

from marbury.classifier.kernel_tile import as_bits, as_float, widest

F = TypeVar("F", bound=Callable[..., Any])
f32, i32 = np.float32, np.int32

_LOG2E, _LN2_HIGH, _LN2_LOW = f32(1.4426950408889634), f32(0.693145751953125), f32(1.428606765330187e-6)
_ONE, _HALF, _ZERO, _LOWEST = f32(1), f32(0.5), f32(0), f32(-87)
_EXP = tuple(f32(1 / math.factorial(n)) for n in range(2, 7))
_ROOT_HALF = f32(math.sqrt(0.5))
_ERF = tuple(map(f32, (0.3275911, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)))
_MOST, _NOTHING = f32(32767), f32(-np.inf)


def compiled(function: F) -> F:
    """A function that is compiled into those that call it."""
    made: F = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(function)
    return made


@compiled
def exponential(x: Any) -> Any:
    """e^x for x <= 0, to 2e-7 of itself; below -87 as at -87."""
    x = _LOWEST if x < _LOWEST else x
    n = np.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = _EXP[4]
    p = p * r + _EXP[3]
    p = p * r + _EXP[2]
    p = p * r + _EXP[1]
    p = p * r + _EXP[0]
    p = p * r + _ONE
    p = p * r + _ONE
    whole = i32(n if n >= _LOWEST * 2 else _ZERO)
    return p * as_float(i32((whole + i32(127)) << i32(23)))


@compiled
def gelu(row: Any) -> None:
    """x times the normal distribution's share below x, in place (erf: Abramowitz and Stegun 7.1.26, to 2e-7)."""
    widest()
    for i in range(row.shape[0]):
        x = row[i]
        z = abs(x) * _ROOT_HALF
        t = _ONE / (_ONE + _ERF[0] * z)
        p = ((((_ERF[5] * t + _ERF[4]) * t + _ERF[3]) * t + _ERF[2]) * t + _ERF[1]) * t
        tail = _HALF * p * exponential(-z * z)  # the share beyond |x|
        row[i] = x * (tail if x < _ZERO else _ONE - tail)


@compiled
def norm(row: Any, by_and_to: Any, epsilon: float) -> None:
    """Layer norm in place, with a scale and a shift (2, width)."""
    size = row.shape[0]
    total = _ZERO
    for i in range(size):
        total += row[i]
    mean = total / f32(size)
    spread = _ZERO
    for i in range(size):
        d = row[i] - mean
        spread += d * d
    by = _ONE / np.sqrt(spread / f32(size) + f32(epsilon))
    for i in range(size):
        row[i] = (row[i] - mean) * by * by_and_to[0, i] + by_and_to[1, i]


@compiled
def add_and_norm(x: Any, y: Any, width: int, by_and_to: Any, epsilon: float) -> None:
    """x becomes the layer norm of x + y, row by row."""
    for t in range(x.shape[0]):
        row, more = x[t, :width], y[t]
        for i in range(width):
            row[i] += more[i]
        norm(row, by_and_to, epsilon)


@compiled
def product(row: Any, weights: Any) -> Any:
    """The product of a row with weights, of which the last is a bias."""
    total = weights[row.shape[0]]
    for i in range(row.shape[0]):
        total += row[i] * weights[i]
    return total


def pack(row: Any, packed: Any, limit: Any) -> Any:
    """Write a row as integers of at most this size, or as it is; gives its scale, NaN if one of the row is."""
    raise NotImplementedError


@overload(pack)  # type: ignore[untyped-decorator]
def _pack(row: Any, packed: Any, limit: Any) -> Any:
    def plain(row: Any, packed: Any, limit: Any) -> Any:
        for i in range(row.shape[0]):
            packed[i] = row[i]
        return _ONE

    def integer(row: Any, packed: Any, limit: Any) -> Any:
        most = i32(0)
        for i in range(row.shape[0]):
            most = max(most, i32(as_bits(row[i]) & i32(0x7FFFFFFF)))  # unsigned, floats sort as integers, NaN last
        peak = as_float(most)
        by = limit / peak if peak > _ZERO else _ZERO
        for i in range(row.shape[0]):
            whole = np.floor(row[i] * by + _HALF)
            packed[i] = np.int16(i32(whole if abs(whole) <= _MOST else _ZERO))
        return peak / limit

    return plain if packed.dtype == types.float32 else integer


@compiled
def input_limit(terms: int) -> Any:
    """How large int16 inputs may be so that a sum of this many products with int8 fits into 32 bits."""
    return f32(min(32767, (2**31 - 1) // (127 * max(terms, 1))))


@compiled
def ordered(bits: Any) -> Any:
    """The bits of a float as an integer that sorts as the float does, and back."""
    return i32(bits ^ i32((bits >> i32(31)) & i32(0x7FFFFFFF)))


@compiled
def shares(scores: Any, count: int) -> Any:
    """e^(score - highest) in place of the first `count` scores, 0 in place of those that fill up; their sum."""
    widest()
    size = scores.shape[0]
    for i in range(count, size):
        scores[i] = _NOTHING
    most = i32(-(2**31))
    for i in range(size):
        most = max(most, ordered(as_bits(scores[i])))
    highest = as_float(ordered(most))
    for i in range(size):
        scores[i] = exponential(scores[i] - highest)
    for i in range(count, size):
        scores[i] = _ZERO
    total = _ZERO
    for i in range(size):
        total += scores[i]
    return total
