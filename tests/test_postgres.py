from contextlib import closing

import psycopg
import pytest
from postgres import PostgresServer


def test_each_test_has_an_empty_database_of_its_own(
    postgres: PostgresServer, postgres_url: str
) -> None:
    other = postgres.url(postgres.fresh())
    with closing(psycopg.connect(postgres_url)) as connection:
        connection.execute("CREATE TABLE jobs (id bigint)")
        connection.commit()

    with closing(psycopg.connect(other)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchone() == (0,)


def test_a_password_is_asked_for_over_tcp(postgres: PostgresServer, postgres_url: str) -> None:
    wrong = postgres_url.replace("a-password", "another")

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with closing(psycopg.connect(postgres.socket_url("postgres"))) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_what_is_committed_survives_a_restart(
    postgres: PostgresServer, postgres_url: str, mode: str
) -> None:
    with closing(psycopg.connect(postgres_url)) as connection:
        connection.execute("CREATE TABLE jobs (id bigint)")
        connection.execute("INSERT INTO jobs VALUES (1)")
        connection.commit()
        connection.execute("INSERT INTO jobs VALUES (2)")

        postgres.restart("immediate" if mode == "immediate" else "fast")

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with closing(psycopg.connect(postgres_url)) as connection:
        assert connection.execute("SELECT id FROM jobs").fetchall() == [(1,)]
