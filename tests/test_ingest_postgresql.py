"""A PostgreSQL server as a source: a real one in a temporary folder; skipped where its programs are not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_files import cells
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import fingerprint, read_sources, sql

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
INITDB = str(PROGRAMS[-1]) if PROGRAMS else shutil.which("initdb")
PORT = 54_000 + os.getpid() % 8_000
pytestmark = pytest.mark.skipif(INITDB is None, reason="PostgreSQL's server is not installed")


def _as_user(folder: Path) -> dict[str, object]:
    """PostgreSQL does not run as root; then it runs as `postgres` or `nobody`, who must reach its folder."""
    if os.geteuid() != 0:
        return {}
    import pwd

    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database with two boats, as the role `reader` who may also write."""
    pytest.importorskip("pg8000")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        folder = Path(name)
        who = _as_user(folder)
        programs = Path(str(INITDB)).parent
        data, log = folder / "data", folder / "log"

        def run(*command: str, **more: object) -> None:
            subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=120, **who, **more)  # type: ignore[call-overload]

        (folder / "password").write_text("s3cr3t")
        (folder / "password").chmod(0o644)
        secured = ["-U", "club", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
        run(str(programs / "initdb"), "-D", str(data), *secured, "-E", "UTF8")
        options = f"-p {PORT} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", str(data), "-l", str(log), "-w", "-o", options, "start")
        try:
            told = "create sequence numbers; create table boats (title text, seats int, built date, text text); "
            told += "insert into boats values "
            told += "('Otter', 6, '1962-05-01', null), ('Heron', 4, '1971-03-02', 'Café: 100%')"
            psql = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(PORT), "-U", "club", "-d", "postgres"]
            run(*psql, "-c", told, env={**os.environ, "PGPASSWORD": "s3cr3t"})
            yield f"postgresql://club:s3cr3t@127.0.0.1:{PORT}/postgres"
        finally:
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")


def config(query: str) -> IngestConfig:
    return IngestConfig(query=query)


def test_rows_are_read_without_naming_a_driver(server: str) -> None:
    query = "SELECT title, seats, built FROM boats WHERE title <> 'a:b' ORDER BY seats"
    (document,) = read_sources([server], config(query)).documents
    assert ("Heron", "seats", "4") in cells(document) and ("Otter", "built", "1962-05-01") in cells(document)
    assert "s3cr3t" not in document.source and document.source.endswith(f":***@127.0.0.1:{PORT}/postgres")
    for scheme in ("postgres", "postgresql+pg8000"):
        (same,) = read_sources([server.replace("postgresql", scheme)], config(query)).documents
        assert same.text == document.text


def test_its_fingerprint_follows_the_rows(server: str) -> None:
    query = "SELECT title FROM boats ORDER BY title"
    assert fingerprint([server], config(query)) == fingerprint([server], config(query))
    assert fingerprint([server], config(query)) != fingerprint([server], config(query + " DESC"))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT nextval('numbers')", "refused .cannot execute nextval.. in a read-only transaction"),
        ("WITH gone AS (DELETE FROM boats RETURNING *) SELECT * FROM gone", "must not contain data-modifying"),
        ("SELECT * FROM nothing", "nothing"),
        ("DROP TABLE boats", "not a SELECT"),
        ("", "no query given \\(its tables: boats\\)"),
    ],
)
def test_it_is_only_read(server: str, query: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        list(sql.read(server, query))
    assert "s3cr3t" not in str(caught.value)
    (document,) = sql.read(server, "SELECT count(*) AS boats FROM boats")
    assert "2" in document.text


def test_a_wrong_password_and_a_server_that_is_not_there(server: str) -> None:
    for wrong in (server.replace("s3cr3t", "oth3r"), server.replace(str(PORT), "1")):
        with pytest.raises(InputError, match="the database refused") as caught:
            list(sql.read(wrong, "SELECT 1"))
        assert "oth3r" not in str(caught.value) and "s3cr3t" not in str(caught.value)
