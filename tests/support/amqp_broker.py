"""A small AMQP 0-9-1 broker in the process of a test, for where there is no RabbitMQ.

It knows what the product uses: the default exchange, direct exchanges, queues, confirmed and mandatory publishing,
consumers with a prefetch count, acknowledgements, and redelivery of what a lost connection had not acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from itertools import count

import pamqp.frame
from pamqp import commands, header
from pamqp.body import ContentBody
from pamqp.heartbeat import Heartbeat

USER, PASSWORD = "ada", "pw"
FRAME_BYTES = 131_072
CAPABILITIES = {"publisher_confirms": True, "basic.nack": True}


class AmqpBroker:
    """The broker. `queues`: messages that are ready, by name of the queue."""

    def __init__(self):
        self.queues = defaultdict(deque)
        self.bindings = defaultdict(set)  # names of queues by exchange and routing key
        self.declared = {}  # arguments by name of the queue
        self.consumers = []
        self.connections = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self):
        self._server.close()
        for consumer in list(self.consumers):
            consumer.connection.writer.close()
        await asyncio.sleep(0)

    def route(self, exchange, key, message):
        """Put a message into the queues that it is routed to; returns whether there is one."""
        names = self.bindings[exchange, key] if exchange else {key} & self.declared.keys()
        for name in names:
            self.queues[name].append(message)
        self.deliver()
        return bool(names)

    def deliver(self):
        for consumer in self.consumers:
            ready = self.queues[consumer.queue]
            while ready and len(consumer.unacknowledged) < consumer.prefetch:
                consumer.send(ready.popleft())

    async def _serve(self, reader, writer):
        self.connections += 1
        connection = _Connection(self, reader, writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await connection.run()
        for consumer in [each for each in self.consumers if each.connection is connection]:
            self.consumers.remove(consumer)
            for message in reversed(consumer.unacknowledged.values()):
                self.queues[consumer.queue].appendleft(message | {"redelivered": True})
        self.deliver()
        writer.close()


class _Consumer:
    def __init__(self, connection, channel, queue, tag, prefetch):
        self.connection, self.channel, self.queue, self.tag = connection, channel, queue, tag
        self.prefetch = prefetch or 1000
        self.unacknowledged = {}

    def send(self, message):
        number = next(self.connection.tags)
        self.unacknowledged[number] = message
        redelivered, exchange, key = message.get("redelivered", False), message["exchange"], message["key"]
        frame = commands.Basic.Deliver(self.tag, number, redelivered, exchange, key)
        self.connection.send(self.channel, frame, message)


class _Connection:
    def __init__(self, broker, reader, writer):
        self.broker, self.reader, self.writer = broker, reader, writer
        self.tags = count(1)
        self.confirmed = defaultdict(lambda: count(1))
        self.prefetch = {}
        self.publishing = {}

    def send(self, channel, frame, message=None):
        self.writer.write(pamqp.frame.marshal(frame, channel))
        if message is not None:
            body = message["body"]
            self.writer.write(pamqp.frame.marshal(header.ContentHeader(0, len(body), message["properties"]), channel))
            for start in range(0, len(body), FRAME_BYTES - 8):
                self.writer.write(pamqp.frame.marshal(ContentBody(body[start : start + FRAME_BYTES - 8]), channel))

    async def receive(self):
        head = await self.reader.readexactly(7)
        rest = await self.reader.readexactly(int.from_bytes(head[3:7]) + 1)
        _, channel, frame = pamqp.frame.unmarshal(head + rest)
        return channel, frame

    async def run(self):
        await self.reader.readexactly(8)
        self.send(0, commands.Connection.Start(0, 9, {"capabilities": CAPABILITIES}, "PLAIN", "en_US"))
        _, started = await self.receive()
        if started.response != f"\0{USER}\0{PASSWORD}":
            self.send(0, commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))
            await self.writer.drain()
            return
        self.send(0, commands.Connection.Tune(100, FRAME_BYTES, 0))
        while True:
            channel, frame = await self.receive()
            if isinstance(frame, commands.Connection.Close):
                self.send(0, commands.Connection.CloseOk())
                await self.writer.drain()
                return
            self.handle(channel, frame)
            await self.writer.drain()

    def handle(self, channel, frame):  # noqa: C901, PLR0912, PLR0915 - a table
        broker = self.broker
        match frame:
            case commands.Connection.Open():
                self.send(0, commands.Connection.OpenOk())
            case commands.Channel.Open():
                self.send(channel, commands.Channel.OpenOk())
            case commands.Channel.Close():
                self.send(channel, commands.Channel.CloseOk())
            case commands.Confirm.Select():
                self.send(channel, commands.Confirm.SelectOk())
            case commands.Basic.Qos():
                self.prefetch[channel] = frame.prefetch_count
                self.send(channel, commands.Basic.QosOk())
            case commands.Exchange.Declare():
                self.send(channel, commands.Exchange.DeclareOk())
            case commands.Queue.Declare():
                broker.declared[frame.queue] = frame.arguments
                ready = len(broker.queues[frame.queue])
                self.send(channel, commands.Queue.DeclareOk(frame.queue, ready, 0))
            case commands.Queue.Delete():
                del broker.declared[frame.queue]
                broker.queues.pop(frame.queue, None)
                for bound in broker.bindings.values():
                    bound.discard(frame.queue)
                self.send(channel, commands.Queue.DeleteOk(0))
            case commands.Queue.Bind():
                broker.bindings[frame.exchange, frame.routing_key].add(frame.queue)
                self.send(channel, commands.Queue.BindOk())
            case commands.Basic.Consume():
                tag = frame.consumer_tag or "consumer"
                self.send(channel, commands.Basic.ConsumeOk(tag))
                broker.consumers.append(_Consumer(self, channel, frame.queue, tag, self.prefetch.get(channel)))
                broker.deliver()
            case commands.Basic.Cancel():
                self.send(channel, commands.Basic.CancelOk(frame.consumer_tag))
            case commands.Basic.Ack():
                for consumer in broker.consumers:
                    if consumer.connection is self:
                        consumer.unacknowledged.pop(frame.delivery_tag, None)
                broker.deliver()
            case commands.Basic.Publish():
                self.publishing[channel] = {"exchange": frame.exchange, "key": frame.routing_key, "body": b""}
                self.publishing[channel]["mandatory"] = frame.mandatory
            case header.ContentHeader():
                self.publishing[channel] |= {"properties": frame.properties, "size": frame.body_size}
                self.publish(channel)
            case ContentBody():
                self.publishing[channel]["body"] += frame.value
                self.publish(channel)
            case Heartbeat() | commands.Connection.TuneOk():
                pass
            case _:
                raise AssertionError(f"the broker does not know {frame.name}")

    def publish(self, channel):
        message = self.publishing[channel]
        if len(message["body"]) < message["size"]:
            return
        number = next(self.confirmed[channel])
        if not self.broker.route(message["exchange"], message["key"], message) and message["mandatory"]:
            returned = commands.Basic.Return(312, "NO_ROUTE", message["exchange"], message["key"])
            self.send(channel, returned, message)
        self.send(channel, commands.Basic.Ack(number))
