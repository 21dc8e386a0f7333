"""Gates as JUnit XML, which every CI system shows."""

import re
from pathlib import Path
from xml.etree import ElementTree

from mlctl.engine.gates import GateResult, Outcome
from mlctl.engine.verdict import Verdict
from mlctl.errors import MachineError


def write_junit(verdict: Verdict, path: Path) -> None:
    """Write one test case for every gate and for every failure. Raises MachineError when it cannot be written."""
    ran = [gate for gate in verdict.gates if gate.outcome is not Outcome.NOT_MEASURED]
    suite = ElementTree.Element(
        "testsuite",
        name=f"mlctl {verdict.command}",
        tests=str(len(verdict.gates) + len(verdict.failures)),
        failures=str(sum(bool(gate.exit_code) for gate in ran)),
        errors=str(len(verdict.failures)),
        skipped=str(len(verdict.gates) - len(ran)),
    )
    for gate in verdict.gates:
        _add_gate(suite, gate)
    for failure in verdict.failures:
        case = ElementTree.SubElement(suite, "testcase", name=failure.step or verdict.command, classname="step")
        ElementTree.SubElement(case, "error", type=failure.kind, message=_legal(failure.what)).text = _legal(
            failure.next
        )
    tree = ElementTree.ElementTree(suite)
    ElementTree.indent(tree)
    try:
        tree.write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise MachineError(f"the report cannot be written ({error.strerror})", where=path) from error


def _legal(text: str) -> str:
    """The text without what XML 1.0 (section 2.2) has no characters for."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "\ufffd", text)


def _add_gate(suite: ElementTree.Element, gate: GateResult) -> None:
    case = ElementTree.SubElement(suite, "testcase", name=gate.text, classname="gate")
    if gate.outcome is Outcome.NOT_MEASURED:
        ElementTree.SubElement(case, "skipped", message=gate.note)
    elif gate.exit_code:
        message = f"{gate.outcome}: {gate.left} against {gate.right}"
        ElementTree.SubElement(case, "failure", type=str(gate.exit_code), message=message).text = gate.note
