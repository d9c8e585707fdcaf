"""What readers get back."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from spanflow import model

MODELS = [
    member
    for member in map(vars(model).get, model.__all__)
    if isinstance(member, type) and issubclass(member, BaseModel)
]


@pytest.mark.parametrize("one", MODELS, ids=lambda one: one.__name__)
def test_every_field_says_what_it_is(one):
    silent = [name for name, field in one.model_fields.items() if not field.description]
    assert silent == []


@pytest.mark.parametrize("one", MODELS, ids=lambda one: one.__name__)
def test_durations_and_money_have_their_unit_in_the_name(one):
    for name, field in one.model_fields.items():
        if field.annotation == float | None:
            assert name.endswith(("_ms", "_usd"))


def test_a_value_cannot_be_changed():
    usage = model.TokenUsage(input_tokens=1)
    with pytest.raises(ValidationError, match="frozen"):
        usage.input_tokens = 2


def test_what_is_unknown_is_none_and_never_zero():
    assert set(model.TokenUsage().model_dump().values()) == {None}


def test_columns_added_later_are_left_out():
    made = model.Engagement.model_validate({"engagement_id": "e", "added_in_a_year": 1})
    assert "added_in_a_year" not in made.model_dump()


def test_an_unknown_status_is_refused():
    with pytest.raises(ValidationError):
        model.Engagement(engagement_id="e", status="lost")
