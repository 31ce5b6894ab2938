"""What a manifest means for a job database: new, changed, reopened, unchanged, held back.

`draft` reads and checks manifests, `decide` compares one with what is stored, `store` writes the
decision down. Nothing is stored before the user has seen the plan. All of it streams: a plan
holds a byte and a number for each of the manifest's jobs, and samples to show.
"""

from batchgen.planning.matching import decide, decide_after, decide_anew
from batchgen.planning.plan import Item, Plan, Verdict, check_budget
from batchgen.planning.storing import Stored, store
from batchgen.planning.wishes import (
    Defaults,
    Draft,
    Prepared,
    Siblings,
    Wish,
    draft,
    prepare,
    repriced,
)

__all__ = [
    "Defaults",
    "Draft",
    "Item",
    "Plan",
    "Prepared",
    "Siblings",
    "Stored",
    "Verdict",
    "Wish",
    "check_budget",
    "decide",
    "decide_after",
    "decide_anew",
    "draft",
    "prepare",
    "repriced",
    "store",
]
