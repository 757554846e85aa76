"""Writes .tflite files operator by operator, through the generated schema: what the front end is tried on."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import tflite

Array = np.ndarray[Any, Any]
TYPES = {
    "float32": tflite.TensorType.FLOAT32, "float16": tflite.TensorType.FLOAT16, "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8, "int32": tflite.TensorType.INT32, "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL, "int16": tflite.TensorType.INT16,
    "resource": tflite.TensorType.RESOURCE,
}  # fmt: skip


class Writer:
    """One graph, and those that it calls."""

    def __init__(self) -> None:
        self.others: list[Writer] = []
        self.signatures: list[tuple[str, int]] = []  # key, graph
        self.tensors: list[dict[str, Any]] = []
        self.operators: list[tuple[str, list[int], list[int], str, dict[str, Any]]] = []
        self.intermediates: dict[int, list[int]] = {}  # operator -> its inner tensors
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32", data: Array | None = None, scale: Any = None,
               zero_point: Any = 0, axis: int = 0, name: str = "", sparsity: Any = None,
               is_variable: bool = False) -> int:  # fmt: skip
        self.tensors.append(
            {"shape": shape, "dtype": dtype, "data": data, "scale": scale, "zero": zero_point, "axis": axis,
             "name": name or f"t{len(self.tensors)}", "sparsity": sparsity,
             "is_variable": is_variable}
        )  # fmt: skip
        return len(self.tensors) - 1

    def constant(self, data: Array, *, shape: tuple[int, ...] | None = None, **more: Any) -> int:
        """``shape``: of the dense tensor, when ``sparsity`` (traversal order, block map, levels) says that data is sparse."""
        return self.tensor(data.shape if shape is None else shape, str(data.dtype), data, **more)

    def op(self, name: str, inputs: list[int], outputs: list[int], options: str = "", **fields: Any) -> None:
        self.operators.append((name, inputs, outputs, options, fields))

    def to_bytes(self) -> bytes:
        b = flatbuffers.Builder(1024)
        graphs = [self, *self.others]
        buffers = [self._buffer(b, None), *(self._buffer(b, t["data"]) for graph in graphs for t in graph.tensors)]
        names = list(dict.fromkeys(op[0] for graph in graphs for op in graph.operators))
        codes = [self._code(b, name) for name in names]
        starts = np.cumsum([1, *(len(graph.tensors) for graph in graphs)])
        made = [graph._graph(b, names, int(start)) for graph, start in zip(graphs, starts, strict=False)]
        parts = {"Subgraphs": _offsets(b, made), "OperatorCodes": _offsets(b, codes), "Buffers": _offsets(b, buffers)}
        if self.signatures:
            parts["SignatureDefs"] = _offsets(b, [_signature(b, *signature) for signature in self.signatures])
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        for field, vector in parts.items():
            getattr(tflite, f"ModelAdd{field}")(b, vector)
        b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
        return bytes(b.Output())

    def _graph(self, b: Any, names: list[str], first_buffer: int) -> int:
        tensors = [self._tensor(b, t, i + first_buffer) for i, t in enumerate(self.tensors)]
        operators = [self._operator(b, op, names.index(op[0]), self.intermediates.get(i)) for i, op in enumerate(self.operators)]
        vectors = {
            "Tensors": _offsets(b, tensors), "Inputs": _ints(b, self.inputs), "Outputs": _ints(b, self.outputs),
            "Operators": _offsets(b, operators),
        }  # fmt: skip
        tflite.SubGraphStart(b)
        for field, vector in vectors.items():
            getattr(tflite, f"SubGraphAdd{field}")(b, vector)
        return int(tflite.SubGraphEnd(b))

    def _buffer(self, b: Any, data: Array | None) -> int:
        vector = None if data is None else b.CreateByteVector(np.ascontiguousarray(data).tobytes())
        tflite.BufferStart(b)
        if vector is not None:
            tflite.BufferAddData(b, vector)
        return int(tflite.BufferEnd(b))

    def _tensor(self, b: Any, t: dict[str, Any], buffer: int) -> int:
        name, shape = b.CreateString(t["name"]), _ints(b, t["shape"])
        quantisation = None
        if t["scale"] is not None:
            scales = np.atleast_1d(np.asarray(t["scale"], np.float32))
            zeros = np.broadcast_to(np.asarray(t["zero"], np.int64), scales.shape)
            scale, zero = b.CreateNumpyVector(scales), b.CreateNumpyVector(np.ascontiguousarray(zeros))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, t["axis"])
            quantisation = tflite.QuantizationParametersEnd(b)
        sparsity = None if t["sparsity"] is None else _sparsity(b, *t["sparsity"])
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, TYPES[t["dtype"]])
        tflite.TensorAddBuffer(b, buffer if t["data"] is not None else 0)
        if quantisation is not None:
            tflite.TensorAddQuantization(b, quantisation)
        if sparsity is not None:
            tflite.TensorAddSparsity(b, sparsity)
        tflite.TensorAddIsVariable(b, t["is_variable"])
        return int(tflite.TensorEnd(b))

    def _code(self, b: Any, name: str) -> int:
        code = getattr(tflite.BuiltinOperator, name, tflite.BuiltinOperator.CUSTOM)  # any other name is a custom operator's
        custom = b.CreateString(name) if code == tflite.BuiltinOperator.CUSTOM else None
        tflite.OperatorCodeStart(b)
        if custom is not None:
            tflite.OperatorCodeAddCustomCode(b, custom)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddVersion(b, 1)
        tflite.OperatorCodeAddBuiltinCode(b, code)
        return int(tflite.OperatorCodeEnd(b))

    def _operator(
        self, b: Any, op: tuple[str, list[int], list[int], str, dict[str, Any]], code: int, inner: list[int] | None
    ) -> int:
        _, inputs, outputs, options, fields = op
        fields = dict(fields)
        ins, outs = _ints(b, inputs), _ints(b, outputs)
        intermediates = None if inner is None else _ints(b, inner)
        table, custom = None, b.CreateByteVector(fields.pop("custom")) if "custom" in fields else None
        fields = {name: _stored(b, value) for name, value in fields.items()}
        if options:
            getattr(tflite, f"{options}Start")(b)
            for field, value in fields.items():
                getattr(tflite, f"{options}Add{field}")(b, value)
            table = getattr(tflite, f"{options}End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, ins)
        tflite.OperatorAddOutputs(b, outs)
        if custom is not None:
            tflite.OperatorAddCustomOptions(b, custom)
        if intermediates is not None:
            tflite.OperatorAddIntermediates(b, intermediates)
        second = "" if hasattr(tflite.BuiltinOptions, options) else "2"  # the union where the first has no more room
        if table is not None:
            kind = getattr(getattr(tflite, f"BuiltinOptions{second}"), options)
            getattr(tflite, f"OperatorAddBuiltinOptions{second}Type")(b, kind)
            getattr(tflite, f"OperatorAddBuiltinOptions{second}")(b, table)
        return int(tflite.OperatorEnd(b))


def _stored(b: Any, value: Any) -> Any:
    """Text and bytes stand before the table that points to them."""
    if isinstance(value, str):
        return b.CreateString(value)
    return b.CreateByteVector(value) if isinstance(value, (bytes, bytearray)) else value


def _signature(b: Any, key: str, graph: int) -> int:
    text = b.CreateString(key)
    tflite.SignatureDefStart(b)
    tflite.SignatureDefAddSignatureKey(b, text)
    tflite.SignatureDefAddSubgraphIndex(b, graph)
    return int(tflite.SignatureDefEnd(b))


def _sparsity(b: Any, order: list[int], blocks: list[int], levels: list[tuple[int, Any, Any]]) -> int:
    made = [_level(b, *level) for level in levels]
    vectors = {"TraversalOrder": _ints(b, order), "BlockMap": _ints(b, blocks), "DimMetadata": _offsets(b, made)}
    tflite.SparsityParametersStart(b)
    for field, vector in vectors.items():
        getattr(tflite, f"SparsityParametersAdd{field}")(b, vector)
    return int(tflite.SparsityParametersEnd(b))


def _level(b: Any, size: int, segments: list[int] | None, indices: list[int] | None) -> int:
    vectors = {}
    for field, values in (("ArraySegments", segments), ("ArrayIndices", indices)):
        if values is not None:
            numbers = _ints(b, values)
            tflite.Int32VectorStart(b)
            tflite.Int32VectorAddValues(b, numbers)
            vectors[field] = tflite.Int32VectorEnd(b)
    tflite.DimensionMetadataStart(b)
    tflite.DimensionMetadataAddFormat(b, tflite.DimensionType.SPARSE_CSR if vectors else tflite.DimensionType.DENSE)
    tflite.DimensionMetadataAddDenseSize(b, size)
    for field, vector in vectors.items():
        getattr(tflite, f"DimensionMetadataAdd{field}Type")(b, tflite.SparseIndexVector.Int32Vector)
        getattr(tflite, f"DimensionMetadataAdd{field}")(b, vector)
    return int(tflite.DimensionMetadataEnd(b))


def _ints(b: Any, values: Any) -> int:
    return int(b.CreateNumpyVector(np.asarray(values, np.int32).reshape(-1)))


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
