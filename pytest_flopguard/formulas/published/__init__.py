"""FLOP formulas as papers and training tools print them, errors included, each under the name of its source.

They are for comparing numbers: what our own closed forms say is in ``architectures``.
"""
