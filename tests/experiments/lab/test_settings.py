"""Settings: those of a run are read back from its file as they were."""

import dataclasses
import json

import pytest

from experiments.lab import BadInput, CheckedSettings, restore


@dataclasses.dataclass(frozen=True)
class Budget(CheckedSettings):
    steps: int = 10
    rates: tuple[float, ...] = (0.1,)


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    seeds: int = 3
    lags: tuple[int, ...] = (5, 10)
    budget: Budget = Budget()


def test_settings_outlive_json_and_unknown_fields_are_ignored():
    settings = Settings(seeds=2, lags=(7,), budget=Budget(rates=(0.5, 0.25)))
    kept = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert restore(Settings(), kept) == settings
    assert restore(Settings(), {"seeds": 2, "minutes": 9}) == Settings(seeds=2)
    assert restore(Settings(), {"budget": {"steps": 4}}).budget == Budget(steps=4)


@pytest.mark.parametrize("kept", [{"seeds": 0}, {"lags": []}, {"budget": {"steps": 1.5}}])
def test_kept_settings_are_checked_as_typed_ones_are(kept):
    with pytest.raises(BadInput, match="expected"):
        restore(Settings(), kept)
