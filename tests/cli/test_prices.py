"""`spanflow prices`, as a person types it."""

from __future__ import annotations

import json

import pytest

from spanflow.query.journeys import connect


def ask(ledger, query):
    with connect(ledger) as opened:
        return [tuple(row.values()) for row in opened.sql(query)]


@pytest.fixture
def models(ledger):
    """The models that were called without a reported cost."""
    found = ask(ledger, "SELECT DISTINCT model FROM llm_calls WHERE cost_usd IS NULL AND counted")
    assert found
    return [model for (model,) in found]


def test_a_price_set_by_hand_prices_the_calls_there_are(spanflow, ledger, models):
    before = spanflow("prices", "list", "--ledger", ledger)
    assert (before.code, before.err) == (0, "")
    assert all(f"unpriced: {model}" in before.out for model in models)
    for model in models:
        given = ("--input", "0.15", "--output", "0.60", "--cache-read", "0.075")
        done = spanflow("prices", "set", model, *given, "--ledger", ledger)
        assert (done.code, done.err) == (0, "")
        assert done.lines[0].startswith("1 prices written; ")
    assert ask(
        ledger,
        "SELECT count(*) FROM llm_calls "
        "WHERE counted AND cost_usd IS NULL AND input_tokens + output_tokens IS NOT NULL",
    ) == [(0,)]
    assert ask(ledger, "SELECT sum(cost_usd) > 0 FROM engagements") == [(True,)]
    listed = spanflow("prices", "list", "--ledger", ledger)
    assert "0.075" in listed.out
    assert "ever" in listed.out
    assert max(map(len, listed.lines)) <= 80
    told = json.loads(spanflow("prices", "list", "--json", "--ledger", ledger).out)
    assert [(row["model"], row["input_usd_per_million"]) for row in told] == [
        (model, 0.15) for model in sorted(models)
    ]


def test_what_list_printed_can_be_imported(spanflow, ledger, models, tmp_path):
    [model, *_] = models
    rates = ("--input", "0.15", "--output", "0.60", "--from", "2026-01-02", "--provider", "p")
    spanflow("prices", "set", model, *rates, "--ledger", ledger)
    printed = spanflow("prices", "list", model, "--json", "--ledger", ledger).out
    (tmp_path / "prices.json").write_text(printed)
    other = tmp_path / "other.duckdb"
    done = spanflow("prices", "import", "--from", tmp_path / "prices.json", "--ledger", other)
    assert (done.code, done.err) == (0, "")
    assert ask(other, "SELECT model, provider, output_usd_per_million::DOUBLE FROM prices") == [
        (model, "p", 0.6)
    ]


def test_litellms_map_as_it_is_installed(spanflow, ledger):
    from completions import litellm

    done = spanflow("prices", "import", "--json", "--ledger", ledger)
    assert done.code == 0
    assert json.loads(done.out)["prices"] > 2_000
    usage = litellm.Usage(
        prompt_tokens=300_000,
        completion_tokens=1_000,
        total_tokens=301_000,
        prompt_tokens_details={"cached_tokens": 100_000},
    )
    served = {"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini"}
    compared = 0
    for name, entry in litellm.model_cost.items():
        provider = entry.get("litellm_provider")
        if provider not in served or entry.get("mode") != "chat" or "audio" in name:
            continue
        model = name.removeprefix(f"{provider}/")
        [(ours,)] = ask(
            ledger,
            f"SELECT usd_at(rates_for('{model}', '{served[provider]}', DATE '2026-11-21', 300000), "
            "300000, 1000, 100000, 0, 0)",
        )
        if ours is None:
            continue
        theirs = sum(
            litellm.cost_per_token(model=name, custom_llm_provider=provider, usage_object=usage)
        )
        compared += 1
        assert ours == pytest.approx(theirs, rel=1e-9), name
    assert compared > 100


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[1]", '[{"model": "m", "input_usd_per_million": "x"}]']
)
def test_a_file_without_prices_is_told_so(spanflow, ledger, tmp_path, text):
    (tmp_path / "prices.json").write_text(text)
    done = spanflow("prices", "import", "--from", tmp_path / "prices.json", "--ledger", ledger)
    assert done.code == 1
    assert "prices.json" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("rate", ["-1", "nan", "cheap"])
def test_what_is_no_price_is_refused(spanflow, ledger, rate):
    done = spanflow("prices", "set", "m", "--input", rate, "--output", "1", "--ledger", ledger)
    assert done.code == 2
    assert "no price" in " ".join(done.err.split())


def test_reprice_changes_nothing_that_is_right(spanflow, ledger):
    done = spanflow("prices", "reprice", "--json", "--ledger", ledger)
    assert json.loads(done.out)["calls"] == 0
