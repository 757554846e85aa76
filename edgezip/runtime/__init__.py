"""Programs run in this process: ``session`` by the C runtime, ``numba_session`` without C, ``reference`` plainly in NumPy."""
