"""The scripts behind the documents: each is a command line like the product's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import tyro

RECIPES = sorted((Path(__file__).parents[2] / "docs" / "recipes").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_command_whose_example_is_understood(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'^    cli\.run\((\w+), main, "python docs/recipes/(\w+)\.py"\)$', text, re.M)
    assert found and found[2] == path.stem
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # where annotations are looked up
    spec.loader.exec_module(module)
    config = getattr(module, found[1])
    examples = re.findall(rf"^ *Example: python docs/recipes/{path.stem}\.py (.*)$", text, re.M)
    assert examples
    for example in examples:
        assert isinstance(tyro.cli(config, args=shlex.split(example)), config)
