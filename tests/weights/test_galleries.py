import numpy as np
import pytest

from jaxcv.errors import DataError, UserError
from jaxcv.weights import Gallery, load_gallery, save, save_gallery

GALLERY = Gallery(np.eye(3, 4, dtype=np.float32), ("Ada", "Ada", "Grace Hopper, ☂"), 0.625)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_back_and_forth(tmp_path, ending):
    save_gallery(tmp_path / f"g.{ending}", GALLERY)
    found = load_gallery(tmp_path / f"g.{ending}")
    np.testing.assert_array_equal(found.vectors, GALLERY.vectors)
    assert (found.names, found.threshold) == (GALLERY.names, GALLERY.threshold)


def test_what_is_none(tmp_path):
    file = tmp_path / "g.npz"
    with pytest.raises(UserError, match="3 embeddings with 1 names are no gallery"):
        save_gallery(file, GALLERY._replace(names=("Ada",)))
    with pytest.raises(UserError, match="0 embeddings"):
        save_gallery(file, Gallery(np.zeros((0, 4), np.float32), (), 0.5))
    with pytest.raises(DataError, match="no such file"):
        load_gallery(file)
    save(file, {"params": {"kernel": np.ones(3)}})
    with pytest.raises(DataError, match="holds no vectors, so it is no gallery; --enroll FOLDER makes one"):
        load_gallery(file)
    good = {"vectors": np.eye(2), "names": np.frombuffer(b'["a", "b"]', np.uint8), "threshold": np.array(0.5)}
    for change, message in {
        "without a name for each row": {"names": np.frombuffer(b'["a"]', np.uint8)},
        "without a name for each": {"names": np.frombuffer(b'["a"', np.uint8)},
        "no text": {"names": np.frombuffer(b"[1, 2]", np.uint8)},
        "not finite": {"vectors": np.full((2, 2), np.nan)},
    }.items():
        save(file, {"gallery": {**good, **message}})
        with pytest.raises(DataError, match=change) as caught:
            load_gallery(file)
        assert "\n" not in str(caught.value)
