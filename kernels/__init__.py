"""Kernels: arrays in, arrays out; nothing here knows of graphs.

``reference`` is the truth in NumPy, ``float_functions`` its float32 polynomials, ``native`` the C kernels through cffi, and
``jit_*`` exact kernels in Numba for where no C is built.
"""
