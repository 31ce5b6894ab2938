"""The flags of `batchgen run`, of which `add` has some."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from batchgen import planning
from batchgen.buckets.bucket import LONGEST_SIGNED_S
from batchgen.cli import common, configured
from batchgen.cli.options import (
    OCCASIONS,
    Jobs,
    NextTimeOfDay,
    Occasions,
    PerSecond,
    Rate,
    Seconds,
    Usd,
    Whole,
    halting,
)
from batchgen.cli.selection import where_option
from batchgen.domain.errors import UsageError
from batchgen.domain.halting import Halting
from batchgen.library.input_files import LINK_S
from batchgen.library.known_models import known_models
from batchgen.manifests.names import ids_with
from batchgen.runner.job import Settings
from batchgen.settings import SIMULATED_CLIPS

_POLL_S = 2.0
_SIMULATED_POLL_S = 0.2
_POLLS_PER_S = 100.0
_POSITIVE = Whole(min=1, max=10**9)
_SECONDS = Seconds()

Command = Callable[..., Any]


@dataclass(frozen=True)
class Flags:
    """The flags of `run`, as the user gave them."""

    manifests: tuple[str, ...]
    db: str | None
    allow_network_fs: bool
    model: str | None
    batch: str | None
    account: str
    jobs: int | str | None
    jobs_max: int | None
    submit_rate: float | None
    output_dir: str | None
    name_template: str | None
    output: str | None
    retries: int
    policy_retries: int
    new_seed_on_retry: bool
    job_timeout: float
    poll_interval: float | None
    poll_rate: float | None
    budget_micros: int | None
    uploads: str | None
    link_lifetime: float
    min_balance_micros: int | None
    wait_for_balance: bool
    halt: Halting
    max_outage: float
    max_duration: float | None
    until_s: float | None
    lease: float
    download: bool
    download_jobs: int
    download_rate: float | None
    sidecar: bool
    limit: int | None
    where: str | None
    max_expand: int
    allow_private_inputs: bool
    allow_unknown_inputs: bool
    probe: bool | None
    replace: bool
    new_batch: bool
    resubmit_in_doubt: bool
    notify: tuple[str, ...]
    notify_on: frozenset[str] | None
    events: str | None
    metrics: str | None
    no_log: bool
    no_inhibit: bool
    dry_run: bool
    simulate: bool
    yes: bool
    progress: str | None
    verbose: bool
    quiet: bool
    as_json: bool

    @property
    def provider(self) -> str:
        """Whose accounts pay."""
        return common.SIMULATED if self.simulate else common.REAL

    @property
    def probes(self) -> bool:
        """Whether input URLs are looked at."""
        if self.limit == 0:  # nothing will be paid for
            return False
        return not (self.simulate or self.dry_run) if self.probe is None else self.probe

    def wishes(self) -> list[planning.Wish]:
        """Return what is asked for with each manifest."""
        return wishes(
            self.manifests,
            account=self.account,
            model=self.model,
            batch=self.batch,
            output_dir=self.output_dir,
            name_template=self.name_template,
            budget_micros=self.budget_micros,
            uploads=self.uploads,
            replace=self.replace,
            new_batch=self.new_batch,
            max_expand=self.max_expand,
            allow_private_inputs=self.allow_private_inputs,
            allow_unknown_inputs=self.allow_unknown_inputs,
        )

    def settings(self, jobs: int | None) -> Settings:
        """Return what was chosen for the session, with its share of the cap, None for all."""
        default_poll_s = _SIMULATED_POLL_S if self.simulate else _POLL_S
        return Settings(
            jobs=jobs,
            retries=self.retries,
            policy_retries=self.policy_retries,
            new_seed_on_retry=self.new_seed_on_retry,
            job_timeout_s=self.job_timeout,
            poll_interval_s=default_poll_s if self.poll_interval is None else self.poll_interval,
            poll_rate=self._poll_rate,
            download=self.download,
            download_jobs=self.download_jobs,
            download_rate=None if self.download_rate == math.inf else self.download_rate,
            limit=self.limit,
            halting=self.halt,
            max_outage_s=self.max_outage,
            lease_s=self.lease,
            max_duration_s=self.max_duration,
            until_s=self.until_s,
        )

    @property
    def _poll_rate(self) -> float | None:
        # No wait between looks means as many as there can be, unless a bound is asked for.
        if self.poll_rate is None and self.poll_interval != 0:
            return _POLLS_PER_S
        return self.poll_rate


def wishes(manifests: Sequence[str], **wanted: Any) -> list[planning.Wish]:
    """Return what the command at work asks for with manifests, by what is configured too.

    Args:
        manifests: Their paths.
        wanted: The fields of `Wish` that the command line says.

    Raises:
        UsageError: If the model that is configured is not known.
    """
    said = configured.defaults()
    if common.is_simulated():
        said["output_dir"] = SIMULATED_CLIPS  # what is configured is for clips that were paid
    models = known_models()
    if (model := said.get("model")) is not None and model not in models:
        raise UsageError(
            f"{configured.whence('model')}: unknown model {model}: {ids_with(model, models)}"
            "`batchgen models list` shows those that are known"
        )
    return [
        planning.Wish(
            path=path,
            provider=common.provider(),
            models=models,
            defaults=planning.Defaults(**said),
            **wanted,
        )
        for path in manifests
    ]


_OF_A_MANIFEST: tuple[Callable[[Command], Command], ...] = (
    click.option("--model", metavar="ID", help="The model, whatever the rows say."),
    click.option(
        "--batch", metavar="NAME", help="The batch; else the manifest's, else its file name."
    ),
    common.account_option,
    click.option("--output-dir", metavar="DIR", help="Where clips go (clips); kept per batch."),
    click.option(
        "--name",
        "name_template",
        metavar="TEMPLATE",
        help="Clip names ({batch}/{id}-{variant}.{ext}), also of columns, {seed}, {model}, {key}, "
        "{row}; kept per batch.",
    ),
    click.option(
        "--budget",
        "budget_micros",
        type=Usd(),
        help="Submit nothing that would lift the batch above this, over its life.",
    ),
    common.uploads_option,
    click.option("--replace", is_flag=True, help="Buy finished clips again whose inputs changed."),
    common.new_batch_option,
    common.max_expand_option,
    click.option(
        "--allow-private-inputs",
        is_flag=True,
        help=common.PRIVATE_INPUTS,
    ),
    common.unknown_inputs_option,
)
_OF_A_RUN: tuple[Callable[[Command], Command], ...] = (
    common.manifests_argument(required=False),
    common.database_options,
    *_OF_A_MANIFEST,
    click.option(
        "-j",
        "--jobs",
        type=Jobs(),
        help="Jobs in flight over all workers (4 unless stored); auto finds what is borne.",
    ),
    click.option("--jobs-max", type=_POSITIVE, metavar="N", help="The most of -j auto (32)."),
    click.option(
        "--submit-rate", type=Rate(), help="Submits a second over all workers; none: no bound."
    ),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the results on every way out after you have agreed.",
    ),
    click.option(
        "--retries",
        type=Whole(min=0, max=100),
        default=1,
        show_default=True,
        help="New paid attempts after a transient generation failure.",
    ),
    click.option(
        "--policy-retries",
        type=Whole(min=0, max=100),
        default=0,
        show_default=True,
        help="New paid attempts, each with a new seed, after a refusal by moderation. Repeats can "
        "get the account suspended.",
    ),
    click.option(
        "--new-seed-on-retry", is_flag=True, help="Let the attempts of --retries take a new seed."
    ),
    click.option(
        "--job-timeout",
        type=_SECONDS,
        default=3600,
        show_default=True,
        metavar="TIME",
        help="Let a job rest that runs longer; a later run looks again.",
    ),
    click.option(
        "--poll-interval",
        type=_SECONDS,
        metavar="TIME",
        help="Shortest time between two looks at a job (2; 0.2 with --simulate).",
    ),
    click.option(
        "--poll-rate",
        type=PerSecond(),
        metavar="N",
        help="Looks a second over all jobs (100; no bound with --poll-interval 0).",
    ),
    click.option(
        "--min-balance",
        "min_balance_micros",
        type=Usd(),
        help="Pay for nothing that would leave the account with less than this.",
    ),
    click.option(
        "--wait-for-balance",
        is_flag=True,
        help="Without money, wait until the account is topped up instead of ending.",
    ),
    click.option(
        "--halt",
        metavar="SPEC",
        multiple=True,
        default=("streak=10", "moderated=50"),
        show_default=True,
        callback=halting,
        help="Stop after N service failures in a row (streak=N), N jobs refused by moderation in "
        "this session (moderated=N), or N or N% of the run's jobs failed, expired or in doubt "
        "(soon,fail=N: finish what is paid for; now,fail=N: leave at once). One verdict a job, "
        "after its retries; may be given again, each for its own kind. never: not at all.",
    ),
    click.option(
        "--max-outage",
        type=_SECONDS,
        default=6 * 3600,
        show_default=True,
        metavar="TIME",
        help="How long to wait for a service that cannot be reached.",
    ),
    click.option(
        "--max-duration",
        type=Seconds(shortest_s=1),
        metavar="TIME",
        help="Stop submitting after so long (8h), and finish what is paid for.",
    ),
    click.option(
        "--until",
        "until_s",
        type=NextTimeOfDay(),
        metavar="HH:MM",
        help="The same when the clock shows this, today or tomorrow.",
    ),
    click.option(
        "--lease",
        type=Seconds(shortest_s=1, longest_s=3600),
        default=30,
        show_default=True,
        metavar="TIME",
        help="PostgreSQL: how long a silent worker keeps its jobs.",
    ),
    click.option("--download/--no-download", default=True, help="Fetch the clips (default)."),
    click.option(
        "--download-jobs", type=_POSITIVE, default=4, show_default=True, help="Downloads at once."
    ),
    click.option("--download-rate", type=Rate(), help="Downloads started a second, of this run."),
    common.sidecar_option,
    click.option("--limit", type=Whole(min=0), help="At most N new payments in this session."),
    click.option(
        "--link-lifetime",
        type=Seconds(shortest_s=60, longest_s=LONGEST_SIGNED_S),
        default=LINK_S,
        show_default=True,
        metavar="TIME",
        help="How long a signed link to an input file opens it (at most 7d).",
    ),
    where_option,
    common.probe_option("default, but not with --simulate and --dry-run"),
    click.option(
        "--resubmit-in-doubt",
        is_flag=True,
        help="Pay again for jobs in doubt; they may have been paid for already.",
    ),
    click.option(
        "--notify",
        multiple=True,
        metavar="URL",
        help="Tell somebody, by a URL of apprise's; may be given more than once. It holds secrets, "
        "and everybody on the machine can read a command line: BATCHGEN_NOTIFY is not public.",
    ),
    click.option(
        "--notify-on",
        type=Occasions(),
        metavar="LIST",
        help=f"What they are told about, with commas ({','.join(OCCASIONS)}).",
    ),
    click.option(
        "--events",
        metavar="FILE",
        help="Append what happens as JSON lines; - for stdout.",
    ),
    click.option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Serve /metrics for Prometheus, and /health; without a host to this machine only.",
    ),
    click.option("--no-log", is_flag=True, help="Keep no log of the session."),
    click.option(
        "--no-inhibit", is_flag=True, help="Let the machine sleep while jobs are at work."
    ),
    click.option("-n", "--dry-run", is_flag=True, help="Show what would happen; touch nothing."),
    common.simulate_option("Against the built-in stand-in: no token, no money.", is_given=True),
    click.option("-y", "--yes", is_flag=True, help="Agree to what is about to be paid."),
    common.progress_option,
    click.option("-v", "--verbose", is_flag=True, help="Say what happens to each job, on stderr."),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="No plan and no progress; with -y nothing but what is wrong.",
    ),
    common.json_option,
)


def manifest_flags(command: Command) -> Command:
    """Give a command the options that say how a manifest is stored: the fields of `Wish`."""
    return _decorated(command, _OF_A_MANIFEST)


def flags(command: Command) -> Command:
    """Give a command the arguments and options of `run`, in the order of its help."""
    return _decorated(command, _OF_A_RUN)


def _decorated(command: Command, decorators: Sequence[Callable[[Command], Command]]) -> Command:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
