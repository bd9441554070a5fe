"""
Who the daemon is: the user it becomes, the files that must be its own, the socket it makes.

Under the user of an application the daemon protects nothing, and as root it
has more to lose than it guards.  So it becomes its own user before it reads
the key, refuses what others may read or change, and leaves no core dump.
"""

import codecs
import grp
import os
import pwd
import resource
import socket
import stat
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from secureml.errors import KeyUnavailableError, StoreError

__all__ = ["become", "bind", "check_private", "forget_cores", "group_id", "user_id", "warm_up"]

_OTHERS: Final = 0o077
_WRITERS: Final = 0o022


def user_id(text: str) -> int:
    """
    Return the number of a user, given by name or number.

    Raises:
        ValueError: There is none of this name.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        msg = f"there is no user {text!r}"
        raise ValueError(msg) from None


def group_id(text: str) -> int:
    """
    Return the number of a group, given by name or number.

    Raises:
        ValueError: There is none of this name.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        msg = f"there is no group {text!r}"
        raise ValueError(msg) from None


def become(user: int | None, group: int | None, more: int | None) -> None:
    """
    Become another user, for good, if this is root; else check that it is that user.

    Args:
        user: Its number; None to stay who this is, which root may not.
        group: Its group; None for the one of the user, or of the same number.
        more: A group that the socket is for.

    Raises:
        StoreError: This is root and no user was named, or this is another user.
    """
    if os.geteuid():
        if user not in {None, os.geteuid()}:
            raise StoreError(
                f"this process cannot become user {user}",
                why=f"it runs as user {os.geteuid()}, and root alone may change that",
                fix="start it as that user, or as root",
            )
        return
    if user is None:
        raise StoreError(
            "the audit daemon does not stay root",
            why="it was started as root, and no other user was named",
            fix="name a user that has nothing else to do: --user secureml",
        )
    if group is None:
        try:
            group = pwd.getpwuid(user).pw_gid
        except KeyError:
            group = user
    os.setgroups(sorted({group} | ({more} if more is not None else set())))
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if user:
        with suppress(PermissionError):
            os.setuid(0)
            raise StoreError(
                "this process could become root again",
                why="the system let it, after it had given that up",
                fix="start it as its own user, without capabilities",
            )


def warm_up() -> None:
    """Load what would be loaded late: an interpreter may lie where root alone can read."""
    for name in ("ascii", "latin-1", "utf-8", "utf-16-be"):
        codecs.lookup(name)
    for module in ("concurrent.futures.thread", "secureml.audit.erasing"):
        import_module(module)


def forget_cores() -> None:
    """Have the system write no core dump: it would hold the key; and allow many descriptors."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_private(path: Path) -> None:
    """
    Refuse a private directory that is not this user's alone.

    Raises:
        KeyUnavailableError: It is missing, another user's, or open to others.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise KeyUnavailableError(
            f"the private directory {str(path)!r} cannot be used",
            why=error.strerror or str(error),
            fix="make it, for the daemon's user alone: install -d -m 700 -o USER DIR.private",
        ) from None
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or mode & _OTHERS:
        raise KeyUnavailableError(
            f"the private directory {str(path)!r} is not this user's alone",
            why=f"it belongs to user {found.st_uid}, with mode {mode:o}; the daemon is user "
            f"{os.geteuid()}",
            fix=f"chown -R and chmod 700 it, after looking at who read the key: {path}",
        )


def bind(path: Path, group: int | None) -> socket.socket:
    """
    Make the socket: for one group, or for everybody.

    Who may do more than knock, the daemon decides by what the kernel says of them.  A
    socket that nobody listens at any more is replaced.

    Args:
        path: Where; the directory has to be one that this user or root alone may change.
        group: The group, one of this user's; None for everybody.

    Raises:
        StoreError: Somebody listens there, others may change the directory, or the system
            refuses.
    """
    try:
        found = path.parent.stat()
        if found.st_uid not in {os.geteuid(), 0} or found.st_mode & _WRITERS:
            raise StoreError(
                f"the socket's directory {str(path.parent)!r} is open to others",
                why=f"it belongs to user {found.st_uid}, with mode "
                f"{stat.S_IMODE(found.st_mode):o}: somebody could put another socket there",
                fix="use a directory of the daemon's user, mode 755 or less",
            )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear(path)
            before = os.umask(0o177)
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
            if group is not None:
                os.chown(path, -1, group)
            path.chmod(0o666 if group is None else 0o660)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise StoreError(
            f"cannot make the socket {str(path)!r}",
            why=error.strerror or str(error),
            fix="check the directory, and that the daemon's user is in the socket's group",
        ) from None
    return sock


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens at."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StoreError(
        f"somebody listens at {str(path)!r}",
        why="a connection was taken: a daemon runs already",
        fix="stop it first, or choose another socket",
    )
