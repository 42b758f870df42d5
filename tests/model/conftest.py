"""A kernel whose two workers are ready."""

import pytest

from tests.model.kernel import Kernel
from tests.model.steps import running


@pytest.fixture
def kernel():
    return running(Kernel(2))
