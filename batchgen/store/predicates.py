"""Predicates of partial indices: queries that they serve say them in the same words."""

from batchgen.domain.states import PAID

IS_PAID = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(PAID)))
"""Jobs that are paid for, or may be."""
