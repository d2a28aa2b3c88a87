"""The configuration refuses what it does not know, names the line, and suggests the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyforge.config import Config, options
from tinyforge.errors import InputError
from tinyforge.pipeline.contenders import Models, Opened
from tinyforge.recipe import config_of, load_config
from tinyforge.run import Run, write_json

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def refused(recipe: Path | None = None, settings: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_config(recipe, settings)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(folder: Path, text: str) -> Path:
    recipe = folder / "recipe.yaml"
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_without_anything_every_default_holds() -> None:
    assert load_config() == Config()


def test_later_wins(tmp_path: Path) -> None:
    recipe = written(tmp_path, "seed: 7\ntrain:\n  epochs: 2\n  lora_rank: 4\n")
    config = load_config(recipe, ["train.epochs=3", "train.learning_rate=1e-4"])
    assert (config.seed, config.train.epochs, config.train.lora_rank) == (7, 3.0, 4)
    assert config.train.learning_rate == 1e-4
    assert config.train.batch_tokens == Config().train.batch_tokens


def test_unknown_key_names_file_line_and_nearest(tmp_path: Path) -> None:
    recipe = written(tmp_path, "seed: 1\ntrain:\n  epochs: 2\n  learning_rte: 0.1\n")
    told = refused(recipe)
    assert told.startswith(f"{recipe}:4: unknown option 'train.learning_rte'.")
    assert told.endswith("Did you mean train.learning_rate?")


@pytest.mark.parametrize(
    ("setting", "suggestion"),
    [
        ("train.epoch=3", "train.epochs"),
        ("epochs=3", "train.epochs"),
        ("retrieve.max_new_tokens=3", "evaluate.max_new_tokens"),
        ("sede=3", "seed"),
    ],
)
def test_unknown_key_on_the_command_line(setting: str, suggestion: str) -> None:
    told = refused(settings=[setting])
    assert told.startswith("--set: unknown option")
    assert told.endswith(f"Did you mean {suggestion}?")


def test_unlike_anything_points_to_the_list() -> None:
    assert refused(settings=["zzzzqqqq=1"]).endswith("See `tinyforge config` for every option.")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("train:\n  epochs: -1\n", 2, "train.epochs"),
        ("train:\n  epochs: many\n", 2, "train.epochs"),
        ("train:\n  epochs: .inf\n", 2, "train.epochs"),
        ("train:\n  epochs: true\n", 2, "train.epochs"),
        ("train:\n  optimizer: sgd\n", 2, "train.optimizer"),
        ("seed: 1\n\nretrieve:\n  passages: 2.5\n", 4, "retrieve.passages"),
        ("seed: '1'\n", 1, "seed"),
        ("train: 3\n", 1, "train"),
        ("seed: 1\ntrain:\n", 2, "train"),
    ],
)
def test_bad_value_names_line_and_key(tmp_path: Path, text: str, line: int, key: str) -> None:
    recipe = written(tmp_path, text)
    assert refused(recipe).startswith(f"{recipe}:{line}: {key} = ")


def test_a_bad_value_on_the_command_line_is_not_blamed_on_the_recipe(tmp_path: Path) -> None:
    recipe = written(tmp_path, "train:\n  epochs: 2\n")
    assert refused(recipe, ["train.epochs=-1"]).startswith("--set: train.epochs = -1")


def test_a_recipe_cannot_switch_on_remote_code(tmp_path: Path) -> None:
    recipe = written(tmp_path, "seed: 1\ntrust_remote_code: true\n")
    assert refused(recipe).startswith(f"{recipe}:2: a recipe cannot switch on trust_remote_code.")
    assert load_config(settings=["trust_remote_code=true"]).trust_remote_code


@pytest.mark.parametrize("text", ["- a\n- b\n", "train: [\n", "just words\n"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    recipe = written(tmp_path, text)
    assert str(recipe) in refused(recipe)


def test_a_recipe_that_is_missing_or_binary(tmp_path: Path) -> None:
    assert "no such recipe" in refused(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert "not readable as YAML" in refused(binary)


@pytest.mark.parametrize(("setting", "part"), [("seed", "KEY=VALUE"), ("seed.x.y=1", "--set"), ("base=[", "not YAML")])
def test_malformed_settings(setting: str, part: str) -> None:
    assert part in refused(settings=[setting])


def test_an_empty_recipe_changes_nothing(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing yet\n")) == Config()


def test_the_configuration_of_a_run_loads_back_as_it_was(tmp_path: Path) -> None:
    config, run = load_config(settings=["train.epochs=3", "base=some/model"]), Run.create(tmp_path / "run", "train")
    write_json(run.path("config.json"), config.model_dump())
    assert config_of(run) == config


def test_a_run_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "train")
    write_json(run.path("config.json"), {"train": {"warp": 9}})
    with pytest.raises(InputError, match=r"unknown option.*Another version of TinyForge") as caught:
        config_of(run)
    assert f"{run.path('config.json')}: train.warp" in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_without_its_configuration_is_not_taken_to_have_the_defaults(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "train")
    run.path("model").mkdir()
    with Models() as models, pytest.raises(InputError, match=r"config\.json: not found.*Make the run again"):
        Opened.open(run.folder, Config(), models)


def test_every_option_is_explained() -> None:
    rows = list(options())
    assert len({key for key, *_ in rows}) == len(rows)
    for key, kind, _, help_text in rows:
        assert kind != "?", key
        assert help_text.endswith("."), key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_shipped_recipes_load(recipe: Path) -> None:
    assert load_config(recipe) != Config()


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize(("written", "meant"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_on_and_off_are_words_although_yaml_reads_truth_values(written: str, meant: str) -> None:
    assert load_config(None, [f"ingest.redact={written}"]).ingest.redact == meant


def test_a_truth_value_stays_one_where_it_is_declared() -> None:
    assert load_config(None, ["train.packing=off"]).train.packing is False
