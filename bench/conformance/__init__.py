"""Operator cases that nobody here wrote, run through our runtime: ``python -m bench.conformance``.

``cases`` reads them, ``scope`` says which ones the project answers for, ``trial`` runs one, ``guard`` runs many and survives
those that crash or hang, ``table`` keeps the committed results.
"""
