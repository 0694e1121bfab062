"""Faster R-CNN, ResNet-50 with a feature pyramid, against torchvision's with the same weights, on photographs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from torch_networks import HASTE, arrays

from jaxcv import losses, models, predict, weights
from jaxcv.data.io.paths import sklearn_file
from jaxcv.ops import balanced_sample
from jaxcv.types import Batch
from jaxcv.weights.start import shapes

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")
detection: Any = pytest.importorskip("torchvision.models.detection")

SIZE = (128, 160)
PROPOSALS, SAMPLES, ANCHORS = 200, 64, 128
TARGETS: Batch = {
    "boxes": np.array(
        [[[10, 12, 60, 70], [50, 40, 150, 120], [3, 90, 40, 120]], [[40, 20, 140, 110], [0] * 4, [0] * 4]]
    ),
    "classes": np.array([[4, 17, 89], [0, 0, 0]]),
    "valid": np.array([[True, True, True], [True, False, False]]),
}
TARGETS["boxes"] = TARGETS["boxes"].astype(np.float32)


@pytest.fixture(scope="module")
def photographs():
    files = (sklearn_file("images", name) for name in ("china.jpg", "flower.jpg"))
    images = [
        np.asarray(Image.open(file).convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BOX)) for file in files
    ]
    return np.stack(images).astype(np.float32) / 255


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d, trainable_layers=5
    )
    network: Any = detection.FasterRCNN(
        backbone,
        num_classes=91,
        min_size=SIZE[0],
        max_size=SIZE[1],
        rpn_post_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_test=PROPOSALS,
        rpn_batch_size_per_image=ANCHORS,
        box_batch_size_per_image=SAMPLES,
    )
    with torch.no_grad():
        for name, module in network.named_modules():
            if type(module).__name__ == "FrozenBatchNorm2d":
                last = name.endswith("bn3")  # so that what sixteen blocks add does not explode
                module.weight.uniform_(0.1, 0.4) if last else module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        # Large enough for confident classes, boxes that move and proposals of different scores.
        network.rpn.head.conv[0][0].weight.normal_(0, 0.03)
        network.rpn.head.cls_logits.weight.normal_(0, 0.05)
        network.rpn.head.bbox_pred.weight.normal_(0, 0.02)
        network.roi_heads.box_predictor.cls_score.weight.normal_(0, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def ours(theirs):
    options = {
        "samples": SAMPLES,
        "max_proposals": (PROPOSALS, PROPOSALS),
        "max_candidates": (2000, 1000),
    }
    model = models.fasterrcnn_resnet50_fpn(**options)
    return model, weights.from_torchvision("fasterrcnn_resnet50_fpn", arrays(theirs))


def channels_first(images):
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]


def test_parameters():
    variables = shapes(models.fasterrcnn_resnet50_fpn())
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 41_755_286


def test_evaluation(theirs, ours, photographs):
    model, variables = ours
    seen: dict[str, Any] = {}

    def keep(name):
        return lambda module, given, out: seen.__setitem__(name, out)

    hooks = [
        theirs.rpn.head.register_forward_hook(keep("rpn")),
        theirs.rpn.register_forward_hook(keep("proposals")),
        theirs.roi_heads.box_predictor.register_forward_hook(keep("box")),
    ]
    with torch.no_grad():
        expected = theirs(channels_first(photographs))
    for hook in hooks:
        hook.remove()

    @jax.jit
    def run(variables, images):
        outputs, _ = model.apply(variables, images)
        return outputs, predict.rcnn(outputs, image_size=SIZE)

    outputs, found = jax.jit(run, compiler_options=HASTE)(variables, jnp.asarray(photographs))
    logits = torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1) for x in seen["rpn"][0]], 1)
    np.testing.assert_allclose(outputs.proposals.objectness, logits, atol=1e-3)
    class_logits = seen["box"][0].reshape(2, PROPOSALS, 91)
    for i in range(2):
        assert outputs.proposals.valid[i].all() and len(seen["proposals"][0][i]) == PROPOSALS
        np.testing.assert_allclose(outputs.proposals.boxes[i], seen["proposals"][0][i], atol=0.05)
        np.testing.assert_allclose(outputs.regions.logits[i], class_logits[i], atol=5e-3, rtol=1e-3)
        count = int(found.valid[i].sum())
        assert count == len(expected[i]["scores"]) > 20
        np.testing.assert_allclose(found.scores[i, :count], expected[i]["scores"], atol=1e-3)
        np.testing.assert_array_equal(found.classes[i, :count] + 1, expected[i]["labels"])
        np.testing.assert_allclose(found.boxes[i, :count], expected[i]["boxes"], atol=0.1)


class Drawn:
    """torchvision's sampler with the numbers that ours draws, or a mask that is given."""

    def __init__(self, seeds):
        self.seeds = seeds

    def __call__(self, labels):
        chosen = []
        for label, seed in zip(labels, self.seeds, strict=True):
            positive, negative = (label >= 1).numpy(), (label == 0).numpy()
            index, valid = balanced_sample(
                jax.random.key(seed), jnp.asarray(positive), jnp.asarray(negative), count=ANCHORS, positive_fraction=0.5
            )
            mask = np.zeros(len(label), bool)
            mask[np.asarray(index)[np.asarray(valid)]] = True
            chosen.append((torch.from_numpy(mask & positive), torch.from_numpy(mask & negative)))
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]


def test_losses_of_a_training_step(theirs, ours, photographs, monkeypatch):
    model, variables = ours
    boxes, valid = jnp.asarray(TARGETS["boxes"]), jnp.asarray(TARGETS["valid"])

    def run(variables, images):
        rngs = {"dropout": jax.random.key(3)}
        outputs, _ = model.apply(variables, images, boxes, valid, train=True, rngs=rngs)
        return outputs, losses.faster_rcnn(outputs, jax.tree.map(jnp.asarray, TARGETS), anchors=ANCHORS)

    outputs, terms = jax.jit(run, compiler_options=HASTE)(variables, jnp.asarray(photographs))
    mean = {name: float((values * w).sum() / w.sum()) for name, (values, w) in terms.items()}

    monkeypatch.setattr(theirs.rpn, "fg_bg_sampler", Drawn(outputs.proposals.seeds))
    sampled, targets = outputs.regions, []
    for i in range(2):
        real = TARGETS["valid"][i]
        label = torch.from_numpy(TARGETS["classes"][i][real] + 1)
        targets.append({"boxes": torch.from_numpy(TARGETS["boxes"][i][real]), "labels": label})
    heads = theirs.roi_heads

    def same_regions(proposals, targets):
        """torchvision's matching of the regions that we sampled."""
        given = [torch.from_numpy(np.array(b[v])) for b, v in zip(sampled.boxes, sampled.valid, strict=True)]
        truth = [t["boxes"] for t in targets]
        matched, labels = heads.assign_targets_to_proposals(given, truth, [t["labels"] for t in targets])
        goals = heads.box_coder.encode([b[m] for b, m in zip(truth, matched, strict=True)], given)
        return given, matched, labels, goals

    monkeypatch.setattr(heads, "select_training_samples", same_regions)
    theirs.train()
    expected = theirs(channels_first(photographs), targets)
    theirs.eval()
    names = {"objectness": "objectness", "proposal_box": "rpn_box_reg", "class": "classifier", "box": "box_reg"}
    assert sampled.valid.sum() > SAMPLES and mean["box"] > 0 and mean["proposal_box"] > 0
    for name, other in names.items():
        np.testing.assert_allclose(
            mean[name], float(expected[f"loss_{other}"].detach()), rtol=1e-3, atol=1e-4, err_msg=name
        )
