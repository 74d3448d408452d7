"""What fitted systems share: examples from the catalog, one fit loop, folds, search, measures, bulk prediction.

A system gives a :class:`~sensorium.jobs.training.method.Method`, a declaration made of plain functions; everything here
calls those. There is no base class to inherit from.
"""
