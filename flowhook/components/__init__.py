"""The public API for authors of components, the functions that a flow may call (docs/components.md).

The runner implements it. No part of Flowhook imports this package, so the kernel stays without the runner.
"""

from runner.components import ClosableResource, Component, Context, Kind, TaskFault, component, fault
from runner.outbound.policies import Policy
from runner.outbound.request_bodies import AttachmentBody

__all__ = [
    "AttachmentBody",
    "ClosableResource",
    "Component",
    "Context",
    "Kind",
    "Policy",
    "TaskFault",
    "component",
    "fault",
]
