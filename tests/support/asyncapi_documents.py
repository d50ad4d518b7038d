"""AsyncAPI documents of tests."""

from __future__ import annotations


def document(host, protocol, *, address="orders/{order}", bindings=None, version="3.0.0", message=None, **server):
    """Return a document with the operations `announce` and `follow` on one channel, in AsyncAPI 3 or 2."""
    message = message or {"contentType": "application/json", "payload": {"type": "object"}}
    parameters = {"order": {"location": "$message.payload#/order", "enum": ["7", "8", "9.5"]}}
    channel = {"parameters": parameters if "{" in address else {}}
    paid = {"$ref": "#/components/messages/paid"}
    if version.startswith("2."):
        url = f"{protocol}://{host}{server.pop('pathname', '')}"
        operation = {"message": {"oneOf": [message]}, "bindings": bindings or {}}
        return {
            "asyncapi": version,
            "servers": {"main": {"url": url, "protocol": protocol, **server}},
            "channels": {address: {**channel, "publish": operation, "subscribe": operation}},
        }
    operation = {"channel": {"$ref": "#/channels/orders"}, "bindings": bindings or {}}
    return {
        "asyncapi": version,
        "servers": {
            "old": {"host": "old.example:1", "protocol": "amqp1"},
            "main": {"host": host, "protocol": protocol, **server},
        },
        "channels": {"orders": {"address": address, **channel, "messages": {"paid": paid}}},
        "operations": {"announce": {"action": "send", **operation}, "follow": {"action": "receive", **operation}},
        "components": {"messages": {"paid": message}},
    }
