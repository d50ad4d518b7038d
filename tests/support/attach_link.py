"""Both halves of Attach, joined over a link that loses what was not read when it is cut. No loop, no gRPC, no storage.

`RouterHalf` does what the router does around its half, in the simplest form: one dict holds leases, another is storage.
`RunnerHalf` does what a runner does around its own: it works on executions by a list of steps. `JoinedHalves` joins the
two and does one thing at a time.
"""

from __future__ import annotations

from collections import Counter, deque

from flowhook.attach import codec
from flowhook.attach.messages import (
    Assignment,
    AssignmentBatch,
    Checkpoint,
    Completed,
    DurableCheckpoint,
    EventDelivery,
    Parked,
    Released,
)
from flowhook.events.lifecycle import LifecycleEvent, TaskEventType
from flowhook.model import EventFilter, JournalEntry, Subscription
from router.session import AddCredit, Register, RenewLeases, RunnerSession, StoreReports, Subscribe
from runner import session as s

LEASE_SECONDS = 6.0
TICK_SECONDS = 0.02
CAPACITY = 4
WAITS = (Subscription("event", (EventFilter(False, "paid"),)),)

CALL, TELL, WAIT, PARK = "call", "tell", "wait", "park"
"""Steps of an execution. Each writes a journal entry: the result of a call, which a lifecycle event may precede; an
event that it waits for while it is running; one that it waits for without a lease."""


class FakeStream:
    """Messages in one direction: in order, or lost together."""

    def __init__(self):
        self.messages = deque()

    def put(self, messages):
        self.messages.extend(message.SerializeToString() for message in messages)


class RouterHalf:
    """A router with one runner, whose executions are numbered from 0."""

    def __init__(self, programs, events):
        self.programs = programs
        self.ready = deque(range(len(programs)))
        self.leases = {}
        self.attempts = Counter()
        self.journals = [[] for _ in programs]
        self.lifecycle = [set() for _ in programs]
        self.ended = {}
        self.parked = deque()
        self.events = deque(range(1, events + 1))
        self.offers = {}
        self.listening = {}
        self.consumed = Counter()
        self.credit = 0
        self.revoking = set()  # leases whose revocation is on its way
        self.good_until = 0.0
        self.session = RunnerSession()

    def connect(self):
        self.session, self.credit = RunnerSession(), 0
        self.revoking.clear()

    def expire(self, now):
        """Take the leases away if nothing renewed them in time; returns whether there were any."""
        lost = list(self.leases) if now >= self.good_until else []
        for lease in lost:
            self.lose(lease)
        return bool(lost)

    def receive(self, payload, now):
        for message, size in codec.decode_request(codec.Request.FromString(payload)):
            for effect in self.session.receive(message, size):
                match effect:
                    case Register(hello=hello):
                        for lease in set(self.leases).difference(hello.held_leases):
                            self.lose(lease)
                        self.good_until = now + LEASE_SECONDS
                        self.session.welcome(LEASE_SECONDS, set(hello.held_leases).intersection(self.leases))
                    case AddCredit(assignments=assignments):
                        self.credit += assignments
                    case RenewLeases(stamp=stamp):
                        self.good_until = now + LEASE_SECONDS
                        self.session.outgoing.renewed(stamp)

    def send(self):
        sent = codec.encode_responses(self.session.take())
        self.session.outgoing.sent()
        return sent

    def lose(self, lease):
        """Take a lease away, and make its execution ready again."""
        self.ready.append(self.leases[lease])
        self.end_lease(lease)

    def end_lease(self, lease):
        del self.leases[lease]
        self.listening.pop(lease, None)
        self.decline(lease)

    def decline(self, lease):
        """Have an event that was offered and not consumed go to whoever is next."""
        number = self.offers.pop(lease, None)
        if number is not None:
            self.events.appendleft(number)

    def cancel(self, number):
        self.ended[number] = "cancelled"
        for lease in [lease for lease, execution in self.leases.items() if execution == number]:
            self.end_lease(lease)
            self.revoking.add(lease)
            self.session.outgoing.revoke([lease], "EXECUTION_CANCELLED")
        for waiting in (self.ready, self.parked):
            if number in waiting:
                waiting.remove(number)

    def dispatch(self):
        """Assign what is ready, and deliver events to those that wait for them."""
        while self.credit and self.ready:
            self.credit -= 1
            number = self.ready.popleft()
            self.attempts[number] += 1
            lease = b"%d.%d" % (number, self.attempts[number])
            self.leases[lease] = number
            journal = tuple(self.journals[number])
            self.session.outgoing.assign([Assignment(lease, self.attempts[number], 1, b"%d" % number, journal)])
        for lease, generation in self.listening.items():
            if self.events and lease not in self.offers:
                event = self.offers[lease] = self.events.popleft()
                self.session.outgoing.deliver(EventDelivery(lease, generation, event, entry_of(event)))
        while self.events and self.parked:
            number, event = self.parked.popleft(), self.events.popleft()
            self.consumed[event] += 1
            self.journals[number].append(entry_of(event))
            self.ready.append(number)

    def store(self):
        """Store one batch of reports."""
        for effect in self.session.reports.take():
            match effect:
                case Subscribe(update=update):
                    self.subscribe(update)
                case StoreReports(checkpoints=checkpoints, outcomes=outcomes, later_outcomes=later):
                    for checkpoint in checkpoints:
                        self.store_checkpoint(checkpoint)
                    for outcome in (*outcomes, *later):
                        self.store_outcome(outcome)
        self.session.reports.stored()

    def subscribe(self, update):
        if update.lease not in self.leases:
            self.session.outgoing.revoke([update.lease], "LEASE_LOST")
            return
        self.decline(update.lease)
        self.listening.pop(update.lease, None)
        if update.subscriptions:
            self.listening[update.lease] = update.generation

    def store_checkpoint(self, checkpoint):
        number = self.leases.get(checkpoint.lease)
        if number is None:
            self.session.outgoing.revoke([checkpoint.lease], "LEASE_LOST")
            return
        self.write(number, checkpoint)
        index = checkpoint.index if checkpoint.entry is not None else checkpoint.index - 1
        self.session.outgoing.acknowledge(checkpoint.lease, index, checkpoint.number)

    def write(self, number, checkpoint):
        self.lifecycle[number].update(event.key for event in checkpoint.events)
        if checkpoint.entry is None:
            return
        journal = self.journals[number]
        assert checkpoint.index <= len(journal), "an entry was lost"
        if checkpoint.index < len(journal):
            assert journal[checkpoint.index] == checkpoint.entry, "an entry was written twice, differently"
            return
        wanted = {f"{index}" for index, step in enumerate(self.programs[number]) if step == TELL}
        reported = {key for key in wanted if int(key) <= checkpoint.index}
        assert reported <= self.lifecycle[number], "an entry is durable before the lifecycle events that precede it"
        if checkpoint.consumed:
            assert self.offers.pop(checkpoint.lease) == checkpoint.consumed
            self.consumed[checkpoint.consumed] += 1
        journal.append(checkpoint.entry)

    def store_outcome(self, outcome):
        number = self.leases.get(outcome.lease)
        if number is None:
            self.session.outgoing.revoke([outcome.lease], "LEASE_LOST")
            return
        for checkpoint in outcome.checkpoints:
            self.write(number, checkpoint)
        self.end_lease(outcome.lease)
        self.session.outgoing.settle([outcome.lease])
        match outcome.ending:
            case Completed(output=output):
                assert number not in self.ended, "an execution ended twice"
                self.ended[number] = output
            case Parked():
                self.parked.append(number)
            case Released():
                self.ready.append(number)


class RunningWork:
    """An attempt at an execution."""

    def __init__(self, assignment):
        self.lease = assignment.lease
        self.number = int(assignment.event)
        self.entries = list(assignment.journal)
        self.durable = len(self.entries)
        self.listens = False


class RunnerHalf:
    """A runner's process; its effects on the world outlive it."""

    def __init__(self, router, performed):
        self.router = router
        self.performed = performed
        self.session = s.Session(runner_id="r", components=(), build="", capacity=CAPACITY, losses_explained=True)
        self.work = {}
        self.renew_at = 0.0

    def connect(self, now):
        self.session.connected(now)
        self.renew_at = now

    def receive(self, payload, now):
        for message in codec.decode_response(codec.Response.FromString(payload)):
            self.apply(self.session.receive(message, now))

    def disconnected(self, now):
        self.session.disconnected()
        self.apply(self.session.expire(now))

    def apply(self, effects):
        for effect in effects:
            match effect:
                case AssignmentBatch(assignments=assignments):
                    for assignment in assignments:
                        assert assignment.lease not in self.work, "an attempt was started twice"
                        self.work[assignment.lease] = RunningWork(assignment)
                case DurableCheckpoint(lease=lease, index=index) if lease in self.work:
                    self.work[lease].durable = index + 1
                case EventDelivery(lease=lease, number=number, entry=entry):
                    self.take_event(self.work[lease], number, entry)
                case s.Abandon(lease=lease):
                    self.work.pop(lease, None)

    def send(self, now):
        if now >= self.renew_at:
            self.session.renew(now)
            self.renew_at = now + LEASE_SECONDS / 3
        return codec.encode_requests(self.session.take())

    def journal(self, work, entry, consumed=0):
        self.session.checkpoint(Checkpoint(work.lease, len(work.entries), entry, consumed=consumed))
        work.entries.append(entry)

    def take_event(self, work, number, entry):
        assert work.listens
        work.listens = False
        self.session.subscribe(work.lease, ())
        self.journal(work, entry, number)

    def step(self, work, now):
        """Do the next step of an execution; a call waits until everything before it is durable."""
        if work.listens:
            return
        index = len(work.entries)
        program = self.router.programs[work.number]
        if index == len(program):
            del self.work[work.lease]
            self.session.finish(work.lease, Completed(b",".join(entry.output for entry in work.entries)))
            return
        match program[index]:
            case "call" | "tell" as kind:
                if index > work.durable or not self.session.leases_certain(now):
                    return
                if kind == TELL:
                    event = LifecycleEvent(TaskEventType.STARTED, f"{index}", 1, b"{}")
                    assert self.session.report_events(work.lease, index, (event,))
                is_good = work.lease in self.router.leases or work.lease in self.router.revoking
                assert is_good, "an effect starts under a lease that is lost"
                assert index >= len(self.router.journals[work.number]), "an effect whose result is durable is repeated"
                self.performed[work.number, index] += 1
                self.journal(work, JournalEntry(f"{index}", b"%d" % index))
            case "wait":
                work.listens = True
                self.session.subscribe(work.lease, WAITS)
            case "park":
                del self.work[work.lease]
                self.session.finish(work.lease, Parked(None, WAITS))


def entry_of(event):
    return JournalEntry("event", b"event")


class JoinedHalves:
    """A router, a runner, and the link between them."""

    def __init__(self, random, programs):
        self.random = random
        self.now = 0.0
        self.steps = 0
        self.performed = Counter()
        self.router = RouterHalf(programs, sum(program.count(WAIT) + program.count(PARK) for program in programs))
        self.runner = RunnerHalf(self.router, self.performed)
        self.to_router, self.to_runner = FakeStream(), FakeStream()
        self.runner.connect(self.now)

    def cut(self, *, crash=False):
        """End the stream, and open another one.

        Either side may still read what is on its way, and act on it, before it notices.
        """
        if self.random.random() < 0.5:
            while self.to_router.messages:
                self.router.receive(self.to_router.messages.popleft(), self.now)
            while self.router.session.reports:
                self.router.store()
        if self.random.random() < 0.5:
            while self.to_runner.messages:
                self.runner.receive(self.to_runner.messages.popleft(), self.now)
            for lease in sorted(self.runner.work):
                self.runner.step(self.runner.work[lease], self.now)
        self.to_router, self.to_runner = FakeStream(), FakeStream()
        self.router.connect()
        self.runner.disconnected(self.now)
        if crash:
            self.runner = RunnerHalf(self.router, self.performed)
        self.runner.connect(self.now)

    def crash(self):
        """End the runner's process, and start another one."""
        self.cut(crash=True)

    def stall(self):
        """Let time pass in which nothing is read: more or less than the length of a lease."""
        self.now += self.random.uniform(0.5, 1.5) * LEASE_SECONDS

    def step(self):
        """Do one thing of those that can happen now."""
        self.steps += 1
        self.now += TICK_SECONDS
        if self.router.expire(self.now):  # it closes the stream, too
            self.cut()
        possible = [self.runner_sends, self.router_sends, self.router.dispatch]
        if self.to_router.messages:
            possible.append(lambda: self.router.receive(self.to_router.messages.popleft(), self.now))
        if self.to_runner.messages:
            possible.append(lambda: self.runner.receive(self.to_runner.messages.popleft(), self.now))
        if self.router.session.reports:
            possible.append(self.router.store)
        if self.runner.work:
            possible.append(self.work)
        self.random.choice(possible)()

    def runner_sends(self):
        self.to_router.put(self.runner.send(self.now))

    def router_sends(self):
        self.to_runner.put(self.router.send())

    def work(self):
        lease = self.random.choice(sorted(self.runner.work))
        self.runner.step(self.runner.work[lease], self.now)

    @property
    def done(self):
        return len(self.router.ended) == len(self.router.programs) and self.runner.session.idle

    def finish(self, limit=20_000):
        """Go on until all executions have ended and the runner knows."""
        while not self.done:
            assert self.steps < limit, "it does not come to an end"
            self.step()

    def check(self):
        """Check that nothing was lost and nothing was done twice."""
        router = self.router
        for number, program in enumerate(router.programs):
            if router.ended[number] == "cancelled":
                continue
            results = [b"event" if step in (WAIT, PARK) else b"%d" % index for index, step in enumerate(program)]
            assert router.ended[number] == b",".join(results)
            assert [entry.output for entry in router.journals[number]] == results
            for index, step in enumerate(program):
                assert (self.performed[number, index] > 0) == (step in (CALL, TELL))
        assert all(count <= router.attempts[number] for (number, _), count in self.performed.items())
        assert all(count == 1 for count in router.consumed.values())
        assert not any((router.leases, router.offers, router.parked))
