"""`batchgen init`: write a commented example manifest."""

import os
import shlex
from pathlib import Path

import click

from batchgen.cli.reply import json_option, print_json
from batchgen.domain.errors import OutputError, UsageError

YAML = """\
# A batch of clips. Check it, and see the cost:   batchgen plan jobs.yaml
# Try it without a token or money:                batchgen run jobs.yaml --simulate
batch: harbor-night        # clips go to a folder of this name; without it: the file's name
model: runwayml/runway-gen-4/turbo/image-to-video
budget: 5                  # US dollars; the batch never submits beyond it

defaults:                  # every job has these unless it says otherwise
  duration: 5              # 5 or 10 seconds
  ratio: "1280:720"
  meta:
    client: acme           # `meta` is never sent: it comes back in every export

vars:                      # for {{ … }} below
  style: 35mm film, soft light

jobs:
  - id: harbor             # names the clip; without it a hash of the content does
    prompt: "Boats leave the harbor at dawn, {{ style }}"
    image: https://images.example.com/harbor.jpg
    seeds: [1, 2, 3]       # three clips, one for each seed

  - id: lighthouse
    prompt: "The beam of the lighthouse sweeps over the waves, {{ style }}"
    image: https://images.example.com/lighthouse.jpg
    duration: 10
    meta:
      shot: 12b            # beside the client of the defaults

  - id: market
    prompt: "Camera pans right over the fish market, {{ style }}"
    image: https://images.example.com/market.jpg
    repeat: 2              # two takes, each with a seed drawn once and kept

  - id: portrait
    image: https://images.example.com/captain.jpg   # only the image is required
    ratio: "720:1280"
    seed: 42

  - id: lake-{{ subject }}-{{ move }}    # three jobs, of all combinations but one
    matrix:
      subject: [fox, heron]
      move: [left, right]
    exclude:
      - {subject: heron, move: left}
    prompt: "A {{ subject }} at the lake, camera pans {{ move }}, {{ style }}"
    image: https://images.example.com/{{ subject }}.jpg
"""

# A CSV has no comments; `client` shows a column that is carried through.
CSV = """\
id,prompt,image,duration,ratio,seeds,client
harbor,"Boats leave the harbor at dawn",https://images.example.com/harbor.jpg,5,1280:720,"1,2,3",acme
lighthouse,"The beam of the lighthouse sweeps over the waves",https://images.example.com/lighthouse.jpg,10,1280:720,,acme
portrait,,https://images.example.com/captain.jpg,5,720:1280,,acme
"""


@click.command("init")
@click.argument("file", required=False)
@click.option("--model", "model_id", metavar="ID", help="Of which model; else the default one.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="A table instead of YAML, if FILE does not say."
)
@json_option
def command(*, file: str | None, model_id: str | None, as_csv: bool, as_json: bool) -> None:
    """Write a commented example manifest to FILE: .yaml or .csv (jobs.yaml if there is none).

    It has every input of the model, with its values. A file that exists is never overwritten.
    """
    path = Path(file or ("jobs.csv" if as_csv else "jobs.yaml"))
    suffix = path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".csv") or (as_csv and suffix != ".csv"):
        raise UsageError(f"{path}: its name must end in .csv" + ("" if as_csv else " or .yaml"))
    _write(path, _example(model_id, path, as_csv=suffix == ".csv"))
    if as_json:
        print_json({"file": str(path)})
        return
    click.echo(str(path))
    click.echo(f"edit it, then: batchgen validate {path}", err=True)


def _example(model_id: str | None, path: Path, *, as_csv: bool) -> str:
    if model_id is None or f"model: {model_id}\n" in YAML:
        return CSV if as_csv else YAML
    # The example of the default model, which most want, needs none of these.
    from batchgen.cli.models import known
    from batchgen.library.known_models import known_models
    from batchgen.manifests.examples import csv_example, yaml_example

    model = known(known_models(), model_id)
    if not as_csv:
        return yaml_example(model, file=shlex.quote(str(path)))
    return csv_example(model)


def _write(path: Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as error:
        raise UsageError(f"{path} exists and is never overwritten: name another file") from error
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror}: see that its folder may be written"
        ) from error
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
