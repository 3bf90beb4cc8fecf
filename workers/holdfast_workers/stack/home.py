"""The home directory: where one embedded stack keeps everything, and the passwords of its database.

Only its owner may read it; files that hold a password say so again with mode 0600.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast_workers.stack.errors import StackError


@dataclass(frozen=True)
class Home:
    """The paths below one home directory."""

    path: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data directory."""
        return self.path / "postgres"

    @property
    def temporal_database(self) -> Path:
        """Temporal's SQLite file."""
        return self.path / "temporal.db"

    @property
    def runtime(self) -> Path:
        """The runtime file, through which other commands find the stack."""
        return self.path / "runtime.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.path / "lock"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.path / "logs" / f"{name}.log"

    def companion(self, name: str) -> Home:
        """The home of what runs beside this stack under a name."""
        return Home(self.path / "beside" / name)

    def companions(self) -> list[Home]:
        """The homes of all that was ever started beside this stack."""
        return [Home(path) for path in sorted((self.path / "beside").glob("*")) if path.is_dir()]

    def exists(self) -> bool:
        """Whether it was ever used. Raises `StackError` if it is another user's."""
        try:
            return self.lock.exists()
        except PermissionError:
            raise StackError(f"`{self.path}` belongs to another user. {CHOOSE_HOME}") from None

    def prepare(self) -> None:
        """Make the directory. Raises `StackError` if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "logs").mkdir(exist_ok=True)
        except OSError as error:
            raise StackError(f"Cannot use `{self.path}` as home: {error.strerror}. {CHOOSE_HOME}") from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StackError(f"Cannot use `{self.path}` as home: it belongs to another user. {CHOOSE_HOME}")


CHOOSE_HOME = "Choose another one with `--data DIR` or HOLDFAST_HOME."


def new_password() -> str:
    """A random password that needs no quoting anywhere."""
    return secrets.token_urlsafe(24)


class Passwords(BaseModel):
    """Passwords of the embedded PostgreSQL's logins, made once per home."""

    model_config = ConfigDict(frozen=True)

    superuser: str = Field(default_factory=new_password, repr=False)
    app: str = Field(default_factory=new_password, repr=False)
    auditor: str = Field(default_factory=new_password, repr=False)

    @classmethod
    def of(cls, home: Home) -> Passwords:
        """Those kept in `home`, made on first use. Raises `StackError` if the file is damaged or missing."""
        file = home.path / "passwords.json"
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            if home.postgres.exists():
                raise StackError(f"`{file}` is missing, and `{home.postgres}` opens to nothing else.") from None
        except (OSError, ValidationError) as error:
            raise StackError(f"Cannot read `{file}`, without which `{home.postgres}` is closed: {error}") from error
        made = cls()
        write_private(file, made.model_dump_json())
        return made


def write_private(file: Path, text: str) -> None:
    """Replace `file` in one step, readable by its owner alone."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
