"""One small picture of each clip, made once and kept."""

from batchgen.posters.cache import Cache
from batchgen.posters.making import Poster, Source, are_possible, make

__all__ = ["Cache", "Poster", "Source", "are_possible", "make"]
