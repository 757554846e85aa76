"""Passes: a valid ONNX model in, a valid ONNX model (or facts about one) out. One verb a file; passes never import passes.

They are composed by ``edgezip.compression`` as a recipe says.
"""
