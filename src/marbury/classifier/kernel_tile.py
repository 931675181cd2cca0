"""The innermost loop of the CPU kernel: a panel of rows times a few tokens, written as vector code.

LLVM does not find a register tile by itself, so it is spelled out here, in portable vector operations: the same code
becomes AVX2, AVX-512 with VNNI, or NEON. Everything is given by address; nothing is checked.

A panel holds `rows` rows of a matrix, interleaved so that one step reads one vector: int8 weights as (step, row, 2)
against int16 inputs (step, 2), summed in int32; fp32 weights as (step, row, 1) against fp32 inputs, summed in fp32.
Sums run over the steps in order, one lane a row, so that a row's sum is the same for any number of tokens. In int8
the steps are even in number for one token.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # rows in one vector of sums
PANEL = 64  # rows in a panel of weights, and keys in a block of a memory
VALUES = 32  # places of a head's values in a panel
LINE = 64  # bytes in a cache line
TOKENS = 6  # tokens that a wide tile reads at once

_BYTE, _SHORT, _INT, _WORD, _FLOAT = (
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)

binding.initialize_native_asmparser()  # for the one instruction that is written out


@intrinsic  # type: ignore[untyped-decorator]
def as_float(typing: Any, bits: Any) -> Any:
    """The float that has these 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], _FLOAT)


@intrinsic  # type: ignore[untyped-decorator]
def as_bits(typing: Any, number: Any) -> Any:
    """The 32 bits of a float."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], _INT)


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typing: Any, like: Any, address: Any) -> Any:
    """A pointer to what this array consists of, at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], ir.PointerType(context.get_data_type(like.dtype)))

    return types.CPointer(like.dtype)(like, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def fetch(typing: Any, address: Any, size: Any) -> Any:
    """Bring this many bytes near, for they are read soon. Any address may be given."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = ir.PointerType(_BYTE)
        function = ir.FunctionType(ir.VoidType(), [place, _INT, _INT, _INT])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place], function)
        lines = builder.udiv(args[1], ir.Constant(_WORD, LINE))
        with cgutils.for_range(builder, lines) as loop:
            here = builder.add(args[0], builder.mul(loop.index, ir.Constant(_WORD, LINE)))
            builder.call(prefetch, [builder.inttoptr(here, place), _INT(0), _INT(2), _INT(1)])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def widest(typing: Any) -> Any:
    """Ask LLVM to use the widest vectors there are in this function; by itself it stops at 32 bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite itself knows no such word
        return context.get_dummy_value()

    return types.void(), codegen


def _tile(rows: int, tokens: int, adds: bool = False) -> Any:
    """An intrinsic: a panel's rows times each token become the sums (token, row), or are added to them.

    Its arguments: an array whose type says which of the two kinds it is, the address of the panel, the address of the
    first input, bytes from one token's input to the next, steps, the address of the sums, bytes from one token's sums
    to the next.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, like: Any, panel: Any, x: Any, x_stride: Any, steps: Any, sums: Any, stride: Any) -> Any:
        integer = like.dtype == types.int8

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            features = context.codegen().magic_tuple()[2]
            vectors = rows // LANES
            group = vectors if tokens == 1 or "+avx512bw" in features else 1  # as many sums as there are registers for
            for first in range(0, vectors, group):
                _loop(builder, features, integer, adds, vectors, range(first, first + group), tokens, args[1:])
            return context.get_dummy_value()

        return types.void(like, *[types.intp] * 6), codegen

    return tile


def _loop(
    builder: Any, features: str, integer: bool, adds: bool, vectors: int, group: range, tokens: int, args: Any
) -> None:
    """The loop over the steps, for some vectors of the panel's rows."""
    panel, x, x_stride, steps, sums, stride = args
    kind = ir.VectorType(_INT if integer else _FLOAT, LANES)

    def at(base: Any, offset: Any, to: ir.Type) -> Any:
        return builder.inttoptr(builder.add(base, offset), ir.PointerType(to))

    def word(value: int) -> ir.Constant:
        return ir.Constant(_WORD, value)

    places = {
        (t, v): at(builder.add(sums, builder.mul(stride, word(t))), word(4 * LANES * v), kind)
        for t in range(tokens)
        for v in group
    }
    ways = 2 if integer and tokens == 1 else 1  # more sums than registers need, because one sum waits for the last
    held = {(*key, way): cgutils.alloca_once(builder, kind) for key in places for way in range(ways)}
    for (t, v, way), room in held.items():
        builder.store(builder.load(places[t, v], align=4) if adds and not way else ir.Constant(kind, None), room)
    step_bytes = vectors * LANES * (2 if integer else 4)
    with cgutils.for_range(builder, builder.udiv(steps, word(ways))) as loop:
        for way in range(ways):
            step = builder.add(builder.mul(loop.index, word(ways)), word(way))
            here = builder.add(panel, builder.mul(step, word(step_bytes)))
            weights = {v: _weights(builder, integer, at, here, word(v * step_bytes // vectors)) for v in group}
            for t in range(tokens):
                row = builder.add(x, builder.mul(x_stride, word(t)))
                inputs = _splat(builder, at(row, builder.mul(step, word(4)), kind.element), kind)
                for v in group:
                    room = held[t, v, way]
                    total = _multiply_add(builder, features, integer, weights[v], inputs, builder.load(room))
                    builder.store(total, room)
    for (t, v), place in places.items():
        total = builder.load(held[t, v, 0])
        for way in range(1, ways):
            total = builder.add(total, builder.load(held[t, v, way]))
        builder.store(total, place, align=4)


def _weights(builder: Any, integer: bool, at: Any, here: Any, offset: Any) -> Any:
    if not integer:
        return builder.load(at(here, offset, ir.VectorType(_FLOAT, LANES)), align=4)
    bytes_ = builder.load(at(here, offset, ir.VectorType(_BYTE, 2 * LANES)), align=1)
    return builder.sext(bytes_, ir.VectorType(_SHORT, 2 * LANES))


def _splat(builder: Any, place: Any, kind: ir.VectorType) -> Any:
    """One input, or a pair of int16 inputs, in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, builder.load(place, align=2), ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _multiply_add(builder: Any, features: str, integer: bool, weights: Any, inputs: Any, total: Any) -> Any:
    """The sums and the product; LLVM knows the integer form as pmaddwd and an addition."""
    signature = ir.FunctionType(total.type, [total.type] * 3)
    if integer and "+avx512vnni" in features:  # LLVM would take two instructions for half of these
        fused = ir.InlineAsm(signature, "vpdpwssd $2, $1, $0", "=v,v,v,0", False)
        return builder.call(fused, [builder.bitcast(weights, total.type), inputs, total])
    if not integer:
        fused = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{LANES}f32")
        return builder.call(fused, [weights, inputs, total])
    wide = ir.VectorType(_INT, 2 * LANES)
    pairs = builder.bitcast(inputs, ir.VectorType(_SHORT, 2 * LANES))
    products = builder.mul(builder.sext(weights, wide), builder.sext(pairs, wide))
    none = ir.Constant(wide, ir.Undefined)
    halves = [
        builder.shuffle_vector(products, none, ir.Constant(ir.VectorType(_INT, LANES), list(range(odd, 2 * LANES, 2))))
        for odd in (0, 1)
    ]
    return builder.add(total, builder.add(*halves))


tile_one = _tile(PANEL, 1)  # a panel of weights or of keys, one token
tile_wide = _tile(PANEL, TOKENS)  # a panel of weights, six tokens
tile_values = _tile(VALUES, 1, adds=True)  # a panel of values, one token; the blocks of a memory add up
