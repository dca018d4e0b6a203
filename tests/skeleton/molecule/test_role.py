"""The service, asked through its own interface."""

import pytest

pytestmark = pytest.mark.reads


def test_answers(host, settings):
    """Replace by a question that only the running service can answer."""
    raise NotImplementedError
