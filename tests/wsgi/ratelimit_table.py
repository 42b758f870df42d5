"""What the tests of the shared counts have in common."""

from apid.wsgi.ratelimit import sharedtable
from apid.wsgi.ratelimit.limit import Limit

HUNDRED = Limit.make("GET", "*", ".*", 100, "DAY")  # the next one leaks after a quarter of an hour


def passed(counts, limit=HUNDRED, hits=1, user=b"u"):
    return sum(counts.charge(user, [limit])[0].delay == 0 for _ in range(hits))


def first_cell(number):
    return (sharedtable._HEAD + number * sharedtable._SET + sharedtable._KEYS) // 8
