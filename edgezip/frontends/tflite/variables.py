"""Variables that operators read and write: VAR_HANDLE names one, READ_VARIABLE and ASSIGN_VARIABLE work on it.

The session carries them (``edgezip.state``); what CALL_ONCE assigns is where they start.
"""

from __future__ import annotations

from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.schema import Operator


@converts("VAR_HANDLE")
def var_handle(e: Emitter, op: Operator) -> None:
    """The name of a variable."""
    e.name_variable(op, (e.options(op, "VarHandleOptions").SharedName() or b"").decode(errors="replace"))


@converts("READ_VARIABLE")
def read_variable(e: Emitter, op: Operator) -> None:
    """What was assigned last, in this run or an earlier one."""
    e.give(op, e.variable(op, 0, op.outputs[0]))


@converts("ASSIGN_VARIABLE")
def assign_variable(e: Emitter, op: Operator) -> None:
    """The value that later reads give."""
    e.keep(op, 0, e.value(op, 1), op.inputs[1])


@converts("CALL_ONCE")
def call_once(e: Emitter, op: Operator) -> None:
    """Done already: ``subgraphs`` took the initial values out of the graph that it calls."""
