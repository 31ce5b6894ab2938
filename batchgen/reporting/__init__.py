"""Gather what a report shows, from one look at the job database."""

from batchgen.reporting.gathering import Wish, check, gather, write

__all__ = ["Wish", "check", "gather", "write"]
