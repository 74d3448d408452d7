"""Reports of a sweep: curves, BD-rates, correlations, distributions, worst cases, costs, recommendations.

``content`` computes everything as tables; ``figures`` draws, ``page`` makes HTML of them, ``command`` is the command line.
"""
