"""One error, with the user's line."""

from __future__ import annotations

import pytest
import torch

from tests.tuner.importers import torch_models
from tuner.errors import ModelError
from tuner.importers.pytorch.errors import guarded, is_users


def test_the_line_of_the_user_s_code_is_named() -> None:
    module, _ = torch_models.wrong_example()
    with pytest.raises(ModelError) as caught:
        guarded("torch:m:f", "it fails", lambda: module(torch.zeros(1, 4, 12, 12)))
    assert "(torch_models.py, line " in caught.value.message
    assert "torch.relu(self.norm(self.first(image)))" in caught.value.message


def test_whose_code_a_file_is() -> None:
    assert is_users(__file__)
    assert not is_users(torch.__file__)
    assert not is_users(str(guarded.__code__.co_filename))
    assert not is_users("<string>")
