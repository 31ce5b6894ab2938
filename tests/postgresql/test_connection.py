"""The connection: its settings, whoever else set others, libpq's ways in, and what is shown."""

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli import commands
from cli.commands import ok, rows, states, write
from postgres import PASSWORD, USER, PostgresServer

from batchgen.domain.errors import StoreError
from batchgen.store import postgres as product
from batchgen.store.database import Database
from batchgen.store.schema import metadata
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

SECRET = "pw-5ecret"
ROLE = "renter"

SETTINGS = (
    "synchronous_commit",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_isolation",
    "transaction_read_only",
)
HOSTILE = {
    "synchronous_commit": "off",
    "lock_timeout": "1ms",
    "statement_timeout": "3s",  # it holds while the connection is made
    "idle_in_transaction_session_timeout": "1ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def settings(tx: Transaction) -> dict[str, str]:
    return {name: str(tx.value(text(f"SHOW {name}"))) for name in SETTINGS}


@pytest.fixture
def role(postgres: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A role of this test's own, which may create tables in the test's database."""
    name = name_of(postgres_url)
    postgres.do(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{SECRET}'")
    postgres.do(f"GRANT ALL ON SCHEMA public TO {ROLE}", database=name)
    yield ROLE
    postgres.do(f"ALTER DATABASE {name} RESET ALL")
    postgres.do(f"DROP OWNED BY {ROLE}", database=name)
    postgres.do(f"DROP ROLE {ROLE}")


def url_of(postgres: PostgresServer, postgres_url: str, who: str = f"{ROLE}:{SECRET}") -> str:
    return f"postgresql://{who}@127.0.0.1:{postgres.port}/{name_of(postgres_url)}"


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["DATABASE", "ROLE"])
def test_no_default_of_database_or_role_weakens_a_transaction(
    postgres: PostgresServer, postgres_url: str, role: str, level: str
) -> None:
    whose = name_of(postgres_url) if level == "DATABASE" else role
    for name, value in HOSTILE.items():
        postgres.do(f"ALTER {level} {whose} SET {name} = '{value}'")
    database = Database(url_of(postgres, postgres_url))

    with database.transaction() as tx:
        writing = settings(tx)
    with database.reading() as tx:
        reading = settings(tx)
    database.close()

    assert writing == {
        "synchronous_commit": "on",
        "lock_timeout": "5s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "15s",
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
    }
    assert reading == {
        "synchronous_commit": "off",
        "lock_timeout": "5s",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "1h",
        "transaction_isolation": "repeatable read",
        "transaction_read_only": "on",
    }


@pytest.mark.parametrize(
    ("default", "kept"),
    [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)
def test_a_commit_is_at_least_durable(
    postgres: PostgresServer, postgres_url: str, default: str, kept: str
) -> None:
    postgres.do(f"ALTER DATABASE {name_of(postgres_url)} SET synchronous_commit = {default}")

    with closing(Database(postgres_url)) as database, database.transaction() as tx:
        assert settings(tx)["synchronous_commit"] == kept


@pytest.mark.parametrize("level", ["DATABASE", "ROLE"])
def test_commands_work_whatever_the_defaults_are(
    postgres: PostgresServer,
    postgres_url: str,
    role: str,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCHGEN_DB", url_of(postgres, postgres_url))
    whose = name_of(postgres_url) if level == "DATABASE" else role
    for name, value in HOSTILE.items():
        postgres.do(f"ALTER {level} {whose} SET {name} = '{value}'")

    ok("add", write("jobs.csv", rows("a", "b")))
    ok("cancel", "a")

    assert states() == {"a": "cancelled", "b": "pending"}


def test_a_silent_network_is_noticed_and_the_server_can_tell_who_is_connected(
    postgres_url: str,
) -> None:
    with closing(Database(postgres_url)) as database, database.reading() as tx:
        name = tx.value(text("SHOW application_name"))
        raw = tx.connection.connection.driver_connection
        assert raw is not None
        with socket.socket(fileno=socket.dup(raw.fileno())) as link:
            keeps = link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle_s = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert (name, keeps, idle_s) == ("batchgen", 1, 15)


def test_the_environment_may_name_the_program(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGAPPNAME", "night")

    with closing(Database(postgres_url)) as database, database.reading() as tx:
        assert tx.value(text("SHOW application_name")) == "night"


def test_what_the_url_says_of_the_connection_is_kept(postgres_url: str) -> None:
    said = f"{postgres_url}?application_name=night&keepalives_idle=7"

    with closing(Database(said)) as database, database.reading() as tx:
        raw = tx.connection.connection.driver_connection
        assert raw is not None
        with socket.socket(fileno=socket.dup(raw.fileno())) as link:
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        assert tx.value(text("SHOW application_name")) == "night"


# -- what is refused -------------------------------------------------------------------------------


def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_DB", postgres_url)
    monkeypatch.setattr(product, "_OLDEST", 990_000)

    done = commands.call("status")

    assert done.code == 11
    assert re.search(r"this is PostgreSQL \d\d, batchgen needs 99 or newer", done.err)


def test_a_database_that_cannot_hold_every_character_is_refused(postgres: PostgresServer) -> None:
    postgres.do("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")

    done = commands.call("add", write("jobs.csv", rows("a")), "--db", postgres.url("latin"))

    postgres.drop("latin")
    assert done.code == 11
    assert "encoding is LATIN1" in done.err


def test_the_encoding_of_the_environment_does_not_matter(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    ok("add", write("jobs.csv", rows("a", prompt="雨 \N{GRINNING FACE}")), "--db", postgres_url)

    shown = ok("show", "a", "--json", "--db", postgres_url)

    assert shown.said["inputs"]["promptText"] == "scene a 雨 \N{GRINNING FACE}"


def test_a_role_that_may_not_create_is_told_so_before_anything_is_paid(
    postgres: PostgresServer, postgres_url: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.do(f"REVOKE ALL ON SCHEMA public FROM {role}", database=name_of(postgres_url))
    postgres.do(f"GRANT USAGE ON SCHEMA public TO {role}", database=name_of(postgres_url))
    monkeypatch.setenv("BATCHGEN_DB", url_of(postgres, postgres_url))
    monkeypatch.setenv("RUNCOMFY_TOKEN", "a-token")
    manifest = write("jobs.csv", rows("a"))

    run, add = commands.call("run", manifest, "-y"), commands.call("add", manifest)

    assert (run.code, add.code) == (11, 11)
    assert "grant it CREATE on the schema public" in run.err
    assert "grant the role its rights" in add.err


def test_job_databases_in_schemas_of_their_own_are_strangers(
    postgres: PostgresServer, postgres_url: str
) -> None:
    urls = []
    for schema in ("one", "two"):
        postgres.do(f"CREATE SCHEMA {schema}", database=name_of(postgres_url))
        urls.append(f"{postgres_url}?options=-csearch_path%3D{schema}")
    ok("add", write("jobs.csv", rows("a")), "--db", urls[0])
    ok("add", write("jobs.csv", rows("b")), "--db", urls[1])
    nowhere = commands.call(
        "run", "jobs.csv", "-y", "--db", f"{postgres_url}?options=-csearch_path%3Dthree"
    )

    listed = [[job["id"] for job in ok("ls", "--json", "--db", url).said["jobs"]] for url in urls]

    assert listed == [["a"], ["b"]]
    assert commands.call("ls", "--db", postgres_url).code == 11  # nothing in public
    assert nowhere.code == 11
    assert "CREATE SCHEMA" in nowhere.err


def test_a_database_of_another_program_is_left_alone(
    postgres: PostgresServer, postgres_url: str
) -> None:
    for table in ("invoices", "alembic_version"):
        postgres.do(f"CREATE TABLE {table} (id int)", database=name_of(postgres_url))

    done = commands.call("add", write("jobs.csv", rows("a")), "--db", postgres_url)

    assert done.code == 11
    assert "belongs to another program" in done.err


# -- libpq's ways in -------------------------------------------------------------------------------


def works(url: str) -> bool:
    with closing(Database(url)) as database, database.reading() as tx:
        return bool(tx.value(text("SELECT current_user")))


def bare(postgres: PostgresServer, database: str) -> str:
    return f"postgresql://{USER}@127.0.0.1:{postgres.port}/{database}"


def test_a_password_comes_from_the_environment_or_a_file(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = bare(postgres, name_of(postgres_url))
    line = f"127.0.0.1:{postgres.port}:*:{USER}:{PASSWORD}\n"
    named, usual = tmp_path / "passwords", Path.home() / ".pgpass"
    for file in (named, usual):
        file.write_text(line)
        file.chmod(0o600)

    assert works(url)  # ~/.pgpass
    usual.unlink()
    with pytest.raises(StoreError, match="no password supplied"):
        works(url)
    monkeypatch.setenv("PGPASSFILE", str(named))
    assert works(url)
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert works(url)


def test_a_service_names_everything(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "services"
    file.write_text(
        f"[night]\nhost=127.0.0.1\nport={postgres.port}\nuser={USER}\npassword={PASSWORD}\n"
        f"dbname={name_of(postgres_url)}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    ok("add", write("jobs.csv", rows("a")), "--db", "postgresql:///?service=night")
    monkeypatch.setenv("PGSERVICE", "night")

    done = ok("status", "--json", "--db", "postgresql://")

    assert done.said["database"] == "postgresql:///"
    named = ok("status", "--json", "--db", "postgresql:///?service=night")
    assert named.said["database"] == "postgresql:/// (service night)"
    assert len(done.said["batches"]) == 1


def test_special_characters_of_a_password_are_escaped_in_a_url(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    postgres.do(f"ALTER ROLE {role} PASSWORD 'p@ss/w:rd? %'")

    assert works(url_of(postgres, postgres_url, f"{role}:p%40ss%2Fw%3Ard%3F%20%25"))


def test_a_unix_socket_needs_no_password(postgres: PostgresServer, postgres_url: str) -> None:
    url = postgres.socket_url(name_of(postgres_url))

    assert works(url)
    assert Database(url).shown == (
        f"postgresql://{USER}@{postgres.folder}:{postgres.port}/{name_of(postgres_url)}"
    )


def test_of_several_hosts_the_one_that_writes_is_used(
    postgres: PostgresServer, postgres_url: str
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, and not listening: nobody else is given the port
        hosts = f"127.0.0.1:{deaf.getsockname()[1]},127.0.0.1:{postgres.port}"
        url = f"postgresql://{USER}:{PASSWORD}@{hosts}/{name_of(postgres_url)}"

        assert works(f"{url}?target_session_attrs=read-write")
        assert Database(url).shown == f"postgresql://{USER}@{hosts}/{name_of(postgres_url)}"
        postgres.do(f"ALTER DATABASE {name_of(postgres_url)} SET default_transaction_read_only=on")
        with pytest.raises(StoreError, match="read-only"):
            works(f"{url}?target_session_attrs=read-write")


# -- nothing echoed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"postgresql://u:{SECRET}%zz@127.0.0.1:1/d", id="broken-escape"),
        pytest.param(f"postgresql://u:a@{SECRET}@127.0.0.1:1/d", id="at"),
        pytest.param(f"postgresql://u:a/{SECRET}@127.0.0.1:1/d", id="slash"),
        pytest.param(f"postgresql://u:1/{SECRET}@127.0.0.1:1/d", id="slash-after-a-number"),
        pytest.param(f"postgresql://u:a/b?{SECRET}@127.0.0.1:1/d", id="slash-question-mark"),
        pytest.param(f"postgresql://u:{SECRET}@127.0.0.1:port/d", id="port"),
        pytest.param(f"postgresql://127.0.0.1:1/d?pasword={SECRET}", id="misspelled"),
        pytest.param(f"postgresql://u:{SECRET}@[::1/d", id="bracket"),
        pytest.param(f"postgresql:/u:{SECRET}@127.0.0.1:1/d", id="one-slash"),
        pytest.param(f"postgresql:u:{SECRET}@127.0.0.1:1/d", id="no-slash"),
        pytest.param(f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/d", id="driver"),
        pytest.param(f"POSTGRESQL://u:{SECRET}@127.0.0.1:1/d", id="capitals"),
        pytest.param(f"mysql://u:{SECRET}@127.0.0.1:1/d", id="another-server"),
        pytest.param(f"host=127.0.0.1 port=1 password={SECRET}", id="keywords"),
        pytest.param(f"postgresql://u:{SECRET}@127.0.0.1:1/d", id="nobody-listens"),
        pytest.param(f"postgresql://u:{SECRET}@nowhere.invalid:1/d", id="no-such-host"),
        pytest.param(f"postgresql://127.0.0.1:1/d?user=u&password={SECRET}", id="in-the-query"),
    ],
)
def test_a_url_that_does_not_work_shows_no_password(
    url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    manifest = write("jobs.csv", rows("a"))

    said = [
        commands.call("status", "--json", "--db", url),
        commands.call("run", manifest, "-y", "-v", "--db", url),
        commands.call("add", manifest, "--db", url),
    ]

    assert [done.code for done in said] == [11, 11, 11]
    for done in said:
        assert done.err.count("\n") == 1
        assert "5ecret" not in done.err + done.out
    assert "5ecret" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.csv"]


def test_a_wrong_password_is_not_shown(postgres_url: str) -> None:
    done = commands.call("status", "--db", postgres_url.replace(PASSWORD, SECRET))

    assert done.code == 11
    assert "password authentication failed" in done.err
    assert SECRET not in done.err


def test_a_broken_constraint_does_not_show_the_row(postgres_url: str) -> None:
    ok("add", write("jobs.csv", rows("a")), "--db", postgres_url)
    broken = text("UPDATE jobs SET inputs = :inputs, state = NULL")

    with (
        closing(Database(postgres_url)) as database,
        pytest.raises(StoreError, match="violates not-null constraint") as refused,
        database.transaction() as tx,
    ):
        tx.run(broken, {"inputs": SECRET})

    assert SECRET not in str(refused.value)
    assert "scene a" not in str(refused.value)


def test_nothing_that_is_said_or_left_behind_holds_the_password(
    postgres: PostgresServer,
    postgres_url: str,
    role: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    url = url_of(postgres, postgres_url)
    monkeypatch.setenv("BATCHGEN_DB", url)
    ok("add", write("jobs.csv", rows("a", "b")))
    said = [
        ok("status", "--json"),
        ok("ls", "--json"),
        ok("show", "a", "--json"),
        ok("db", "check", "--json"),
        commands.call("export", "-o", "out.csv"),
    ]
    with closing(Database(url)) as database, database.reading() as tx:
        stored = [
            str(tx.value(text(f"SELECT string_agg(t::text, ' ') FROM {table} t")))
            for table in metadata.tables
        ]
        running = tx.value(text("SELECT string_agg(query, ' ') FROM pg_stat_activity"))

    texts = [done.out + done.err for done in said]
    texts += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET in one for one in [*texts, *stored, str(running)])
    assert said[0].said["database"].startswith(f"postgresql://{role}@127.0.0.1")
