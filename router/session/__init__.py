"""The router's half of the Attach protocol, without I/O: messages from one runner in, effects out.

::

    greeting --Hello--> registering --welcome()--> attached

- `machine`: the state machine of one stream; `effects`: what its owner has to do after a message.
- `report_queue`: checkpoints, outcomes and subscriptions that wait to be stored, in order and in batches.
- `send_queue`: what waits to be sent to the runner, in an order that makes sense, and bounded.
- `validation`: limits that are checked on what runners send.

One instance serves one stream, since credit and everything that is not sent are lost with it. Leases outlive streams;
the scheduling core knows them (`router.scheduling`), and this package does not.

Neither queue decides when something is stored or sent: its owner takes all there is, as soon as it is done with what it
took before, so that batches grow with the load.
"""

from router.session.effects import AddCredit, Effect, Register, RenewLeases, ReportEffect, StoreReports, Subscribe
from router.session.machine import RunnerSession

__all__ = [
    "AddCredit",
    "Effect",
    "Register",
    "RenewLeases",
    "ReportEffect",
    "RunnerSession",
    "StoreReports",
    "Subscribe",
]
