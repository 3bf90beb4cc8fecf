"""Becomes a server process: ends when its parent ends and, asked to, gives up root first.

Run as a script, `python -I -S launch.py DEATH_SIGNAL UID:GID -- ARGV...`, between fork and exec: it is safe
where a `preexec_fn` in a program with threads is not. It must import nothing but the standard library.

PostgreSQL refuses to run as root. An unprivileged uid could not reach a data directory below `/root`, and
opening that directory to everybody is not ours to do, so the uid keeps one capability to walk through it.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Change this process as told and replace it by `ARGV`."""
    death_signal, user, separator, *argv = arguments
    if separator != "--":
        raise SystemExit("usage: launch.py DEATH_SIGNAL UID:GID -- ARGV...")
    parent = os.getppid()
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        become(uid, gid)
    if sys.platform == "linux":
        # After the change of uid, which clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit("the supervisor is gone")
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise SystemExit(f"cannot run `{argv[0]}`: {error.strerror}") from None


def become(uid: int, gid: int) -> None:
    """Turn from root into `uid`, keeping only the right to pass directories closed to that user."""
    if sys.platform != "linux":
        drop_root(uid, gid)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    # So that access(2), with which PostgreSQL looks for its own program, counts the capability too.
    libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0, 0, 0)
    drop_root(uid, gid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    one = 1 << CAP_DAC_OVERRIDE
    # Effective, permitted, inheritable for capabilities 0 to 31, then for 32 to 63.
    sets = (ctypes.c_uint32 * 6)(one, one, one, 0, 0, 0)
    # A container may have taken this capability from root; then the server must do without.
    if libc.capset(header, sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def drop_root(uid: int, gid: int) -> None:
    """Give up root's groups and ids, in the order that keeps each call permitted."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    main(sys.argv[1:])
