"""Programs run in this process: ``session`` through the C runtime, ``reference`` in NumPy."""
