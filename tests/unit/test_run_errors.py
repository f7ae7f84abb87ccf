"""What clients learn of a run's failure."""

from langgraph_serverless.domain.run_errors import LONGEST_MESSAGE, MASK, describe


class OwnError(Exception):
    pass


def test_well_known_classes_are_shown_and_others_masked() -> None:
    assert describe(ValueError("wrong"), mask=True) == {"error": "ValueError", "message": "wrong"}
    assert describe(OwnError("secret"), mask=True) == {"error": "OwnError", "message": MASK}
    assert describe(OwnError("secret"), mask=False) == {"error": "OwnError", "message": "secret"}


def test_a_message_that_holds_the_whole_input_is_cut_off() -> None:
    message = describe(ValueError("x" * 1_000_000), mask=True)["message"]
    assert message == "x" * LONGEST_MESSAGE + "..."
