"""What an error is over HTTP."""

from __future__ import annotations

import inspect

import pytest

from localllm import errors
from localllm.daemon.errors import KINDS, HttpError, headers_of, problem_of
from localllm.errors import ContextLengthError, InvalidRequestError, LocalLLMError, QueueFullError, UsageError

TREE = [cls for _name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, LocalLLMError)]


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_class_of_the_tree_has_its_status(cls: type[LocalLLMError]) -> None:
    assert cls in KINDS, "a new error: give it a status in localllm/daemon/errors.py"
    problem = problem_of(cls("words"))
    assert problem.status >= 400
    # What a client sends is never the daemon's failure.
    if issubclass(cls, UsageError) and cls is not errors.ConfigError:
        assert problem.status == 400
    assert problem.status != 500 or cls is LocalLLMError


def test_facts_that_clients_may_see() -> None:
    problem = problem_of(ContextLengthError("too long", num_prompt_tokens=900, num_ctx=512, path="/home/me/x"))
    assert problem.counts == {"num_prompt_tokens": 900, "num_ctx": 512}
    assert problem_of(InvalidRequestError("no", param="top_p")).param == "top_p"


def test_when_to_ask_again() -> None:
    assert headers_of(problem_of(QueueFullError("full", retry_after_s=7.2))) == {"retry-after": "8"}
    assert headers_of(problem_of(QueueFullError("full")))["retry-after"] == "1"
    assert headers_of(problem_of(errors.OutOfMemoryError("big"))) == {"x-should-retry": "false"}
    assert headers_of(problem_of(HttpError(401, "x", "no", headers=(("www-authenticate", "Bearer"),)))) == {
        "www-authenticate": "Bearer"
    }
