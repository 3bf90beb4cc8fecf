"""Logins of the embedded database: members of the group roles that the migrations create.

Somebody else's database has logins of its own making; only the embedded one gets them from here.
"""

from __future__ import annotations

from importlib.resources import files

from holdfast_workers.stack.home import Passwords
from holdfast_workers.stack.postgres import Postgres

APP = "holdfast_app_login"
AUDITOR = "holdfast_auditor_login"
GROUPS = {APP: "holdfast_app", AUDITOR: "holdfast_auditor"}


async def ensure_logins(postgres: Postgres, passwords: Passwords) -> None:
    """Create the logins or renew their passwords. The migrations must have run."""
    statement_for = files(__package__).joinpath("logins.sql").read_text()
    connection = await postgres.log_in()
    try:
        for login, password in ((APP, passwords.app), (AUDITOR, passwords.auditor)):
            await connection.execute(await connection.fetchval(statement_for, login, password, GROUPS[login]))
    finally:
        await connection.close()
