"""The options user and group: names or numbers, as the system's databases know them."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd

from apid.errors import ConfigError

HIGHEST = 2**32 - 2
"""The last id; 2**32 - 1 means "no change" to setresuid(2)."""


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user, with a primary group.

    `name` is None for a number that the user database does not have, and where only a group is given.
    """

    uid: int
    gid: int
    name: str | None


def of(user_text: str | None, group_text: str | None) -> User | None:
    """Return who the options stand for; None where neither is given.

    Raises:
        ConfigError: there is no such user or group.
    """
    if user_text is None and group_text is None:
        return None
    try:
        who = user(user_text) if user_text is not None else User(os.getuid(), os.getgid(), None)
    except ValueError as error:
        raise ConfigError(f"option user: {user_text}: {error}") from None
    try:
        return dataclasses.replace(who, gid=group(group_text)) if group_text is not None else who
    except ValueError as error:
        raise ConfigError(f"option group: {group_text}: {error}") from None


def user(text: str) -> User:
    """Return the user that the option names.

    A number that the user database does not have is taken as it is, which containers need. Its group then has the same number:
    the other choice would be the group of the process that starts, which is root's.

    Raises:
        ValueError: there is no such user; the text says so.
    """
    number = _number(text)
    try:
        entry = pwd.getpwnam(text) if number is None else pwd.getpwuid(number)
    except (KeyError, UnicodeEncodeError):
        if number is None:
            raise ValueError("there is no such user") from None
        return User(number, number, None)
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def group(text: str) -> int:
    """Return the id of the group that the option names; a number need not be in the group database.

    Raises:
        ValueError: there is no such group; the text says so.
    """
    number = _number(text)
    try:
        return grp.getgrnam(text).gr_gid if number is None else number
    except (KeyError, UnicodeEncodeError):
        raise ValueError("there is no such group") from None


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > len(str(HIGHEST)) or int(text) > HIGHEST:
        raise ValueError(f"a number must be from 0 to {HIGHEST}")
    return int(text)
