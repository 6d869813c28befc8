"Colours and label numbers against the data sets' own packages. Run by `make parity`."
import numpy as np
import pytest

from lvm_lite.sources import _cityscapes
from lvm_lite.tasks import CITYSCAPES


def test_cityscapes():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels",
                                 reason="cityscapesScripts is not installed: pip install --no-deps cityscapesscripts").labels
    for label in labels:
        if label.id < 0: continue  # the licence plate is drawn as 255 or not at all
        wanted = 255 if label.ignoreInEval else label.trainId + 1
        assert _cityscapes(np.array([[label.id]]))[0, 0] == wanted, label
        if not label.ignoreInEval: assert tuple(CITYSCAPES[wanted]) == label.color, label
    assert len(CITYSCAPES) == 1 + len({label.trainId for label in labels if not label.ignoreInEval})
