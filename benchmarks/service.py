"""The stand-in service as a process: says its base, serves until SIGTERM, says how much it sold.

python benchmarks/service.py clip_bytes=1000000 'run_s=(5.0, 5.0)'
"""

import ast
import sys

from batchgen.providers.simulator import Settings, serve


def main() -> None:
    """Serve with the settings of the command line."""
    settings = {
        name: ast.literal_eval(value)
        for name, _, value in (word.partition("=") for word in sys.argv[1:])
    }
    ledger = serve(Settings(**settings), ready=lambda base: print(base, flush=True))
    print(ledger.counters.accepted, flush=True)


if __name__ == "__main__":
    main()
