"Every numbered notebook runs from top to bottom, its asserts and all."
from pathlib import Path

import pytest
from nbdev.test import test_nb as run_notebook

root = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("notebook", sorted((root / "nbs").glob("[0-9]*.ipynb")), ids=lambda p: p.stem)
def test_notebook(notebook):
    passed, _ = run_notebook(notebook, showerr=True)
    assert passed, f"{notebook.name} fails; the cell and its error stand above"
