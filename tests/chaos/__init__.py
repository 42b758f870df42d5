"""A seeded chaos driver: actions of operators, disks and kernels on one side, clients that check every answer on the other.

Theory of operation. `session.py` draws one action after another from a table (`actions/`); each action has its own dice, made
from the seed and its number, so the sequence of one seed is always the same. An action knows what it expects: the verdict of a
reload, the number of workers, the exit code. It announces what it takes from clients as a `Disruption` (`account.py`). Meanwhile
`clients.py` sends requests with unique ids and judges each answer. `rest.py` pauses the clients from time to time and compares
what was sent, executed, answered, logged and counted, and what the parent holds. A failure names the seed and the actions so far.

`python -m tests.chaos --seed N --seconds S [--only ACTION,...]` repeats a session without pytest.
"""
