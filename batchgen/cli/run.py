"""`batchgen run`: add manifests, ask, and work until every job in scope is at rest."""

import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchgen import exporters, planning, results
from batchgen.cli import configured, consent, ending, plans, probed, service
from batchgen.cli.common import log_to_stderr, looking, plural, print_json
from batchgen.cli.consent import Look
from batchgen.cli.flags import Flags, flags
from batchgen.cli.options import AUTO
from batchgen.cli.progress import mode_of
from batchgen.cli.reseed import Reseed
from batchgen.cli.session import Errand, say, work
from batchgen.cli.telling import Told, telling
from batchgen.domain.errors import BatchgenError, Exit, UsageError
from batchgen.domain.jobs import Model
from batchgen.domain.prices import priced
from batchgen.domain.states import UNFINISHED, JobState
from batchgen.library.input_files import sender_of
from batchgen.library.known_models import known_models
from batchgen.library.service import Service
from batchgen.manifests import named
from batchgen.planning import Verdict
from batchgen.providers.interface import Provider
from batchgen.runner.clocks import steady_s, wall_ms
from batchgen.runner.purse import Purse
from batchgen.settings import Token, database_url, find_token
from batchgen.store import accounts, by_hand, costs, imports, reads, upgrade, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Database
from batchgen.store.reads import BatchSummary
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction

_JOBS_MAX = 32


@click.command()
@flags
def command(**given: Any) -> int:
    """Add the jobs of each MANIFEST and work until all of them are at rest.

    Without a manifest, go on with every job that is not at rest. Resuming is running:
    whatever interrupted a run, the same command goes on.
    """
    wanted = Flags(**given)
    log_to_stderr(verbose=wanted.verbose)
    for line in configured.used() if wanted.verbose else ():
        say(line)
    for name, instead in configured.unknown_names().items():
        if instead:
            say(f"warning: {name}: nothing reads it: {instead}")
    _check_flags(wanted)
    _check_where(wanted)
    if wanted.output is not None:
        exporters.check_target(wanted.output, overwrite=False)
    database = Database(
        database_url(wanted.db),
        allow_network_fs=wanted.allow_network_fs,
    )
    with (
        contextlib.closing(database),
        telling(database, wanted) as told,
        service.chosen(simulate=wanted.simulate, dry_run=wanted.dry_run) as found,
    ):
        _check_output(database, wanted)
        look = consent.look(database, wanted, found)
        wanted = _with_limits(wanted, look.account)
        _check_edits(wanted, look)
        if wanted.dry_run:
            _probe(database, wanted, look)
            return _show_dry_run(database, look, wanted)
        consent.check_database(database, wanted)
        if look.account is not None and look.account.paused:
            with _results(database, wanted, look):
                raise Paused(look.account)
        if not wanted.simulate:
            found.token = find_token()  # after the manifests: their faults are told first
        if wanted.download:
            consent.check_places(database, look)
            consent.check_space(database, wanted, look)
        _probe(database, wanted, look)
        consent.ask(database, wanted, found, look)
        return _run(database, wanted, found, look, told)


def _check_flags(wanted: Flags) -> None:
    """Refuse flags that would do nothing: what they set belongs to a manifest's batch.

    What is configured is none of them: it is a default, and waits for a manifest.
    """
    given = {
        "--model": wanted.model,
        "--output-dir": wanted.output_dir,
        "--name": wanted.name_template,
        "--budget": wanted.budget_micros,
        "--uploads": wanted.uploads,
        "--replace": wanted.replace,
        "--new-batch": wanted.new_batch,
    }
    if wanted.sidecar and not wanted.download:
        raise UsageError(
            "--sidecar with --no-download would do nothing: leave one out, and fetch the clips "
            "with `batchgen download --sidecar`"
        )
    idle = [flag for flag, value in given.items() if value]
    if idle and not wanted.manifests:
        raise UsageError(
            f"{', '.join(idle)} without a manifest would do nothing: name the manifest of the "
            "batch too"
        )


def _check_where(wanted: Flags) -> None:
    """Refuse to select among jobs that are not stored yet."""
    if wanted.where is not None and wanted.manifests:
        names = " ".join(map(named, wanted.manifests))
        raise UsageError(
            f"--where selects among stored jobs: `batchgen add {names}` first, then `batchgen run "
            "--where …` without the manifest"
        )


def _check_output(database: Database, wanted: Flags) -> None:
    if wanted.output in (None, "-"):
        return
    file = database.path
    if file is not None and Path(wanted.output or "").resolve() == file.resolve():
        raise UsageError(f"{wanted.output} is the job database: name another --output")


def _check_edits(wanted: Flags, look: Look) -> None:
    """Refuse to write the results over a manifest whose edits they would not have.

    Raises:
        UsageError: If so.
    """
    if wanted.output in (None, "-"):
        return
    for plan in look.plans:
        left = plan.count(Verdict.LEFT) + plan.count(Verdict.BUSY)
        path = Path(plan.prepared.wish.path)
        if left and path.exists() and Path(wanted.output or "").resolve() == path.resolve():
            instead = "buy what has succeeded again with --replace"
            raise UsageError(
                f"{wanted.output} is the manifest too, and the edits of {plural(left, 'row')} in "
                "it would be lost, for their jobs are left alone: name another --output"
                + ("" if wanted.replace else f", or {instead}")
            )


def _probe(database: Database, wanted: Flags, look: Look) -> None:
    if wanted.probes:
        look.probed = probed.probe_jobs(
            database,
            lambda: consent.candidates(database, look),
            allow_private=wanted.allow_private_inputs,
            quiet=wanted.quiet or wanted.as_json,
        )
        with looking(database) as tx:
            for plan in look.plans:
                look.probed.spare(plan, tx)
        _check_edits(wanted, look)


def _show_dry_run(database: Database, look: Look, wanted: Flags) -> int:
    for plan in look.plans:
        planning.check_budget(plan)
    if wanted.as_json:
        with looking(database) as tx:
            shown = [plans.as_json(plan, tx) for plan in look.plans]
        print_json(
            {
                "dry_run": True,
                "manifests": shown,
                "to_pay": look.payments(wanted.limit),
                "probed": None if look.probed is None else look.probed.as_json(),
                "in_doubt_again": len(look.again),
            }
        )
        return Exit.SUCCESS
    for line in consent.plan_lines(look, wanted):
        click.echo(line)
    click.echo("dry run: nothing was stored or spent")
    return Exit.SUCCESS


class Paused(BatchgenError):
    """A person has paused the account."""

    kind = "paused"
    exit_code = Exit.HALTED

    def __init__(self, account: Account) -> None:
        command = "unpause" if account.name == "default" else f"unpause --account {account.name}"
        super().__init__(
            f"account {account.name} is paused: nothing was stored or submitted; let it go on with "
            f"`batchgen {command}`"
        )


# -- after consent -------------------------------------------------------------------------------


@contextlib.contextmanager
def _results(database: Database, wanted: Flags, look: Look) -> Iterator[None]:
    """Write `--output` on the way out, whatever it is, if there is a job database."""
    try:
        yield
    except BaseException:
        try:
            _write_results(database, wanted, look)
        except BatchgenError as error:  # what went wrong first gives the exit code
            say(str(error))
        raise
    _write_results(database, wanted, look)


def _write_results(database: Database, wanted: Flags, look: Look) -> None:
    if wanted.output is not None and database.exists():
        results.write(database, wanted.output, batch_ids=look.batch_ids, overwrite=False)


def _run(database: Database, wanted: Flags, found: Service, look: Look, told: Told) -> int:
    began_ms = wall_ms()
    estimate_micros = _estimate_micros(look, wanted)
    told.begin()
    reseed = Reseed(known_models, partial(_kept_schema, database))
    with _results(database, wanted, look):
        upgrade.open_current(database)
        scope = _store(database, wanted, look, began_ms)
        with database.transaction() as tx:
            account = accounts.ensure(tx, wanted.provider, wanted.account)
            for row in look.again:
                by_hand.resubmit(tx, row.id, now_ms=began_ms, attempt_id=row.attempt_id)
            # Last: from here on every claim of the account waits for the commit.
            digest = found.token.digest if found.token else ""
            accounts.bind(tx, account, origin=found.origin, token_hash=digest)
            if look.is_repriced:  # else it would look through all that waits for nothing
                costs.keep_catalog(tx, account.id, look.catalog, now_ms=began_ms)
                costs.relist(tx, account.id, _repriced(look))
            share = _limit(tx, database, account, wanted)
        if look.probed is not None:
            look.probed.sift(database, account.id, scope, now_ms=began_ms)
        look.batch_ids = None if scope.batch_ids is None else list(scope.batch_ids)
        told.works_on(look.batch_ids)
        with database.reading() as tx:
            begun = reads.tally(tx, scope, account.id, by_counters=True)
            had_estimates = _has_estimates(tx, look)
        outcome = work(
            Errand(
                database=database,
                make_provider=found.connect,
                account_id=account.id,
                scope=scope,
                settings=wanted.settings(share),
                allow_private=found.is_local,
                renew_token=_renewal(found.token) if found.token else lambda _: False,
                reseed=reseed,
                total=_unfinished(begun),
                goal=_unfinished(begun) - _left_by_limit(begun, wanted.limit),
                progress=mode_of(wanted.progress, is_silent=wanted.quiet or wanted.as_json),
                is_estimate=had_estimates,
                purse=Purse(
                    steady_s,
                    min_micros=wanted.min_balance_micros,
                    waits=wanted.wait_for_balance,
                    unit_micros=look.unit_micros,
                    balance_micros=look.balance_micros,
                ),
                session_id=told.session_id,
                emit=told.emit,
                sidecar=wanted.sidecar,
                sender=sender_of(
                    database, link_s=int(wanted.link_lifetime), pretends=wanted.simulate
                ),
                keep_awake=not (wanted.no_inhibit or wanted.simulate),
                metrics=told.metrics,
            )
        )
    with database.reading() as tx:
        since_ms = 0 if wanted.manifests else began_ms
        tally = reads.tally(tx, scope, account.id, since_ms=since_ms)
        summaries = _summaries(tx, look)
        is_estimate = _has_estimates(tx, look)
        losses = ending.Losses.of(reads.lost(tx, scope, account.id, since_ms=since_ms))
        found_account = accounts.find(tx, wanted.provider, wanted.account)
    reasons = ending.judge(
        outcome, tally, download=wanted.download, limited=wanted.limit is not None
    )
    ended = ending.Ending(
        database=database,
        flags=wanted,
        outcome=outcome,
        tally=tally,
        reasons=reasons,
        batches=summaries,
        losses=losses,
        is_estimate=is_estimate,
        estimate_micros=estimate_micros,
        is_most=look.is_most(wanted.limit),
        in_flight_before=begun[JobState.SUBMITTING] + begun[JobState.RUNNING],
        is_paused=found_account is not None and found_account.paused,
        log=told.log,
    )
    ending.summarise(ended)
    told.ended(
        reasons,
        counts={str(state): tally[state] for state in JobState},
        submitted=outcome.stats.submitted,
        has_worked=bool(outcome.stats.submitted or outcome.stats.succeeded),
        spent_micros=ended.spent_micros,
        spent_is_estimate=is_estimate,
        reserved_micros=ended.reserved_micros,
    )
    return reasons[0].exit_code


def _renewal(token: Token) -> Callable[[Provider], bool]:
    """Return what gives a provider the token that was stored since, if one was."""
    used = {token.text}

    def renew(provider: Provider) -> bool:
        try:
            newer = find_token()
        except BatchgenError as error:
            say(str(error))
            return False
        if newer.text in used:
            return False
        used.add(newer.text)
        provider.use_token(newer.text)
        say(f"the token was refused; going on with the newer one of {newer.source}")
        return True

    return renew


def _repriced(look: Look) -> dict[str, Model]:
    known = priced(known_models(), look.catalog)
    return {name: known[name] for name in look.catalog if name in known}


def _kept_schema(database: Database, batch_id: int, model: str) -> dict[str, Any] | None:
    with database.reading() as tx:
        return reads.kept_schema(tx, batch_id, model)


def _spared(tx: Transaction, look: Look, plan: planning.Plan) -> planning.Plan:
    """Return a plan that gives up no clip for an input file that cannot be used."""
    if look.probed is not None:
        look.probed.spare(plan, tx)
    return plan


def _store(database: Database, wanted: Flags, look: Look, now_ms: int) -> Scope:
    """Store the manifests and fix the scope; what was not shown is not stored or paid for."""
    if not wanted.manifests:
        batch_ids = None if look.batch_ids is None else tuple(look.batch_ids)
        return Scope(batch_ids, look.newest_job_id, only=look.only)
    gone: dict[int, frozenset[int]] = {}
    outside: dict[int, frozenset[int]] = {}
    with imports.adding(database):
        with database.reading() as tx:
            found = [_spared(tx, look, planning.decide_anew(tx, draft)) for draft in look.drafts]
        shown, wanted_now = (
            sum((plan.bought for plan in some), Counter[tuple[str, str, int | None]]())
            for some in (look.plans, found)
        )
        if wanted_now - shown:  # more of anything: another model, other settings or prices too
            raise UsageError(
                "the manifest or the job database has changed since you were asked: nothing was "
                "stored or spent; run again"
            )
        for plan in found:
            planning.check_budget(plan)
        for number, decided in enumerate(found):
            plan = decided
            if number:  # the one before may have stored some of its jobs
                with database.reading() as tx:
                    plan = _spared(tx, look, planning.decide_after(tx, plan))
            stored = planning.store(
                database, plan, now_ms=now_ms, draw=random.SystemRandom().randint
            )
            batch_id = stored.batch_id
            gone[batch_id] = gone.get(batch_id, stored.gone) & stored.gone
            outside[batch_id] = outside.get(batch_id, stored.outside) & stored.outside
        with database.reading() as tx:
            newest = reads.newest_job_id(tx)
    return Scope(
        tuple(gone),
        newest,
        excluded=frozenset().union(*gone.values()),
        outside=frozenset().union(*outside.values()),
    )


def _with_limits(wanted: Flags, account: Account | None) -> Flags:
    """Return the flags without a highest cap that is configured where the cap does not move.

    Raises:
        UsageError: If `--jobs-max` is given there: neither `-j auto` is, nor is it stored.
    """
    is_stored = wanted.jobs is None and account is not None and account.auto_max is not None
    if wanted.jobs_max is None or wanted.jobs == AUTO or is_stored:
        return wanted
    if configured.is_typed("jobs_max"):
        raise UsageError("--jobs-max without -j auto would do nothing: give -j auto too")
    return replace(wanted, jobs_max=None)


def _limit(tx: Transaction, database: Database, account: Account, wanted: Flags) -> int | None:
    """Store what the account's workers may do together, if no other lives.

    Returns:
        This worker's share of the cap; None for whatever the account allows.
    """
    if wanted.jobs is wanted.jobs_max is wanted.submit_rate is None:
        return None
    living = workers.living(tx, database.backend)
    if living:
        at_work = f"{plural(len(living), 'other worker')} at work"
        if wanted.jobs_max is not None or wanted.submit_rate is not None:
            say(f"{at_work}: --jobs-max and --submit-rate stay as they are stored")
        if isinstance(wanted.jobs, int):
            share = min(wanted.jobs, account.cap)
            say(f"{at_work}: the cap stays {account.cap}, this one takes at most {share}")
            return wanted.jobs
        if wanted.jobs == AUTO and account.auto_max is None:
            say(f"{at_work}: the cap stays {account.cap}")
        return None
    if isinstance(wanted.jobs, int):
        accounts.set_cap(tx, account, wanted.jobs)
    elif wanted.jobs == AUTO or wanted.jobs_max is not None:
        accounts.set_auto(tx, account, wanted.jobs_max or account.auto_max or _JOBS_MAX)
    if wanted.submit_rate is not None:
        rate = None if math.isinf(wanted.submit_rate) else wanted.submit_rate
        accounts.set_rate(tx, account, rate)
    return None


def _estimate_micros(look: Look, wanted: Flags) -> int | None:
    """Return what the payments were estimated to cost, None if nobody knows or there are none."""
    estimate = look.estimate(wanted.limit)
    return None if not look.payments(wanted.limit) or estimate.unpriced else estimate.micros


def _left_by_limit(tally: Counter[JobState], limit: int | None) -> int:
    """Return how many jobs `--limit` leaves waiting, as far as it is known before."""
    return 0 if limit is None else max(0, tally[JobState.PENDING] - limit)


def _summaries(tx: Transaction, look: Look) -> list[BatchSummary]:
    return [
        batch for batch in reads.batches(tx) if look.batch_ids is None or batch.id in look.batch_ids
    ]


def _has_estimates(tx: Transaction, look: Look) -> bool:
    return any(reads.has_estimates(tx, batch) for batch in _summaries(tx, look))


def _unfinished(tally: Counter[JobState]) -> int:
    return sum(tally[state] for state in UNFINISHED)
