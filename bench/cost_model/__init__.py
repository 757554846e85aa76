"""The cost model of ``edgezip.cost`` against published latencies of boards, and the coefficients that fit them."""
