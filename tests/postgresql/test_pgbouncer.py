"""Behind pgbouncer in transaction mode, where the next transaction has another connection."""

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from postgres import PASSWORD, USER, PostgresServer
from postgresql import pgbouncer
from runs import Place, rows_of

from batchgen.domain.errors import StoreError
from batchgen.providers import simulator
from batchgen.store.database import Database
from batchgen.store.statements import text

pytestmark = pytest.mark.skipif(pgbouncer.PROGRAM is None, reason="pgbouncer is not installed")

DEFAULTS = {
    "lock_timeout": "0",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronous_commit": "off",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}
WORKERS = 3
JOBS = 30


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's folders, which nobody but their owner may enter.
    made = Path(tempfile.mkdtemp(prefix="batchgen-bouncer-"))
    yield made
    shutil.rmtree(made)


def test_several_workers_share_two_connections_and_leave_no_setting_behind(
    postgres: PostgresServer, postgres_url: str, folder: Path, tmp_path: Path
) -> None:
    name = name_of(postgres_url)
    postgres.do(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with (
        simulator.start_in_thread(simulator.Settings(run_s=(0.0, 0.2))) as service,
        pgbouncer.running(postgres, folder, name) as port,
    ):
        place = Place(tmp_path, service, url=postgres.url(name, port=port))
        place.write(rows_of(JOBS))
        started = [place.start_run("jobs.csv", "-j", "10") for _ in range(WORKERS)]
        done = [one.wait() for one in started]
        left = [one for _ in range(4) for one in sessions(place.url)]
        listed = place.start("ls", "--json", "--db", place.url).wait()
        backends = postgres_connections(postgres_url)

    place.url = postgres_url
    assert {one.code for one in done} == {0}, [one.err for one in done]
    assert place.states() == Counter(succeeded=JOBS)
    assert len(service.ledger.entries) == JOBS
    place.check_books()
    place.check_clips()
    assert len(listed.said["jobs"]) == JOBS
    assert left == [DEFAULTS] * 4 * pgbouncer.POOL
    assert backends <= pgbouncer.POOL


def sessions(url: str) -> list[dict[str, str]]:
    """Return the settings of every connection of the pool, seen by a stranger at the same time."""
    found = []
    held = [psycopg.connect(url, prepare_threshold=None) for _ in range(pgbouncer.POOL)]
    for connection in held:
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (0,)
        said = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in DEFAULTS}
        found.append({name: row[0] for name, row in said.items() if row is not None})
    for connection in held:
        connection.close()
    return found


def postgres_connections(url: str) -> int:
    with closing(psycopg.connect(url)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_setting_in_the_url_is_refused_by_it_with_one_clear_line(
    postgres: PostgresServer, postgres_url: str, folder: Path
) -> None:
    name = name_of(postgres_url)
    with pgbouncer.running(postgres, folder, name) as port:
        url = postgres.url(name, port=port) + "?options=-csearch_path%3Dpublic"
        with pytest.raises(StoreError, match="unsupported startup parameter") as refused:
            Database(url).exists()

    assert PASSWORD not in str(refused.value)


def certificate(folder: Path, name: str) -> Path:
    made = ["-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2"]
    said = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made, *said],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / f"{name}.crt"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_is_verified(
    postgres: PostgresServer, postgres_url: str, folder: Path
) -> None:
    name = name_of(postgres_url)
    mine, other = certificate(folder, "mine"), certificate(folder, "other")
    more = (
        f"client_tls_sslmode = allow\nclient_tls_cert_file = {mine}\n"
        f"client_tls_key_file = {folder}/mine.key"
    )
    with pgbouncer.running(postgres, folder, name, more) as port:
        url = f"postgresql://{USER}:{PASSWORD}@localhost:{port}/{name}?sslmode=verify-full"
        with (
            closing(Database(f"{url}&sslrootcert={mine}")) as database,
            database.reading() as tx,
        ):
            raw = tx.connection.connection.driver_connection
            assert raw is not None
            assert raw.pgconn.ssl_in_use
            assert tx.value(text("SELECT 1")) == 1
        with pytest.raises(StoreError, match="certificate verify failed"):
            Database(f"{url}&sslrootcert={other}").exists()
        with pytest.raises(StoreError, match="does not match host name"):
            Database(f"{url}&sslrootcert={mine}".replace("@localhost", "@127.0.0.1")).exists()
