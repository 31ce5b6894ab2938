"""What stands in `seeds` and `repeat`, in a cell or in YAML."""

import json
import re
from typing import Any

from batchgen.manifests.values import shown

_SEED = re.compile(r"-?[0-9]{1,20}")


def parse_seeds(written: Any, *, most: int) -> list[int]:
    """Return the seeds of a row in order.

    Raises:
        ValueError: If they are not different whole numbers, none, or more than `most`.
    """
    values = written if isinstance(written, list) else [written]
    if isinstance(written, str):
        text = written.strip()
        values = _parsed(text) if text.startswith("[") else re.split(r"[\s,;]+", text)
    if "" in values:
        raise ValueError("a seed is missing beside a comma: write whole numbers, as 1, 2, 3")
    seeds: list[int] = []
    for value in values:
        if isinstance(value, bool) or not _SEED.fullmatch(str(value).strip()):
            raise ValueError(f"{shown(value)} is not a seed: write whole numbers, as 1, 2, 3")
        seeds.append(int(value))
    if not seeds:
        raise ValueError("there are none: write whole numbers, or leave `seeds` out")
    if len(seeds) > most:
        raise ValueError(f"{len(seeds):,} seeds, at most {most:,} are allowed (--max-expand)")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ValueError(f"the seed {twice} is there twice: remove one, or use `repeat`")
    return seeds


def parse_repeat(written: Any, *, most: int) -> int:
    """Return how often a row is to be made.

    Raises:
        ValueError: If it is not a whole number from 1 to `most`.
    """
    text = str(written).strip()
    if (
        isinstance(written, bool)
        or not re.fullmatch(r"[0-9]{1,9}(?:\.0*)?", text)
        or float(text) < 1
    ):
        raise ValueError(f"{shown(written)} is not a whole number above 0")
    count = int(float(text))
    if count > most:
        raise ValueError(f"{count:,} takes, at most {most:,} are allowed (--max-expand)")
    return count


def _parsed(text: str) -> list[Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{shown(text)} is not a list: write 1, 2, 3") from None
    return values if isinstance(values, list) else [values]
