"""A lost job database is made anew from its exports, and from the journal of its purchases."""

from batchgen.rebuilding.build import Rebuilt, Terms, rebuild
from batchgen.rebuilding.exports import Exports, ToldBatch
from batchgen.rebuilding.journals import Candidate, Evidence

__all__ = [
    "Candidate",
    "Evidence",
    "Exports",
    "Rebuilt",
    "Terms",
    "ToldBatch",
    "rebuild",
]
