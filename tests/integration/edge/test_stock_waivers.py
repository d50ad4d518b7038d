"""The list of waivers is about tests that exist. (That a waived test fails is checked where it runs.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stock_waivers import MODULES, WAIVERS

HERE = Path(__file__).parent


@pytest.mark.parametrize("waiver", WAIVERS)
def test_a_waived_test_exists_and_runs_on_both_servers(waiver):
    module, *_, name = waiver.split("::")
    name, _, parameter = name.partition("*")
    (path,) = HERE.rglob(module)
    text = path.read_text()
    assert Path(module).stem in MODULES
    assert f"def {name}(" in text
    assert parameter in text
