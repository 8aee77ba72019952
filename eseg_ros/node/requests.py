"""Services while the executor is held up by a transition that takes long."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.service import Service

_SHUTDOWNS = (
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
)


class RequestsDuringTransition:
    """Answers a node's services from within a transition callback, which the executor is waiting for.

    State and parameters are told as ever. The state machine takes no other transition before this one has ended: a
    shutdown is put off until then, any other is refused.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._shutdown: tuple[Service, Any] | None = None  # with the request's header
        self._transition_ended = node.create_guard_condition(self._carry_out)

    def serve(self) -> bool:
        """Answer what waits; whether a shutdown is asked for. Call it in the executor's thread."""
        for service in list(self._node.services):
            while True:
                with service.handle:
                    request, header = service.handle.service_take_request(service.srv_type.Request)
                if request is None:
                    break
                self._answer(service, request, header)
        return self._shutdown is not None

    def _answer(self, service: Service, request: Any, header: Any) -> None:
        response = service.srv_type.Response()
        if service.srv_type is not ChangeState:
            response = service.callback(request, response)
        elif self._shutdown is None and _asks_for_shutdown(request):
            self._shutdown = service, header
            self._transition_ended.trigger()  # the executor comes to it after the transition
            return
        service.send_response(response, header)

    def _carry_out(self) -> None:
        """Shut down, after the transition that was under way has failed."""
        if self._shutdown is None:
            return
        (service, header), self._shutdown = self._shutdown, None
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_UNCONFIGURED_SHUTDOWN))
        service.send_response(service.callback(request, ChangeState.Response()), header)


def _asks_for_shutdown(request: Any) -> bool:
    """A label is looked at first, as rclpy does."""
    transition = request.transition
    return transition.label == "shutdown" if transition.label else transition.id in _SHUTDOWNS
