"""The alternatives: the same networks in torch, and jaxcv's with Flax's own layers."""

import importlib
from collections.abc import Callable
from typing import Any


def torch_network(name: str, anchor_boxes: tuple[tuple[float, float], ...] = (), size: int = 0) -> Any:
    """torchvision's network, or one written in torch; `anchor_boxes` and `size` are for a whole detector."""
    torchvision: Any = importlib.import_module("torchvision")
    t: Any = importlib.import_module("torch.nn")

    if name == "lenet5":
        parts = [t.Conv2d(1, 6, 5), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2), t.Flatten()]
        return t.Sequential(*parts, t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, 10))
    if name == "unet":
        return _unet()
    if name == "fcn32s_resnet50":
        return _fcn32s(torchvision.models.resnet50())
    if name == "deconvnet":
        return _deconvnet()
    if name == "yolo":
        return _yolo()
    if name == "yolo_detect":
        return _detector(_yolo(), anchor_boxes, size)
    if name.startswith("faster"):
        # Sizes for which its own resizing leaves the images as they are; all five stages trained, as ours.
        make = getattr(torchvision.models.detection, name)
        norm = {"weights": None, "weights_backbone": None, "trainable_backbone_layers": 5}
        return make(**norm, min_size=size, max_size=size, norm_layer=torchvision.ops.FrozenBatchNorm2d)
    return getattr(torchvision.models, name)()


def _unit(inputs: int, outputs: int, activation: Any, *, kernel: int = 3, stride: int = 1) -> Any:
    t: Any = importlib.import_module("torch.nn")

    conv = t.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return t.Sequential(conv, t.BatchNorm2d(outputs), activation)


def _unet(width: int = 32, depth: int = 4) -> Any:
    torch: Any = importlib.import_module("torch")
    t: Any = importlib.import_module("torch.nn")

    def level(inputs: int, outputs: int) -> Any:
        return t.Sequential(_unit(inputs, outputs, t.ReLU(True)), _unit(outputs, outputs, t.ReLU(True)))

    class UNet(t.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [width << i for i in range(depth + 1)]
            self.down = t.ModuleList(level(3 if i == 0 else widths[i - 1], c) for i, c in enumerate(widths))
            self.up = t.ModuleList(t.ConvTranspose2d(2 * c, c, 2, 2) for c in widths[:-1])
            self.join = t.ModuleList(level(2 * c, c) for c in widths[:-1])
            self.head = t.Conv2d(width, 2, 1)

        def forward(self, x: Any) -> Any:
            seen = []
            for i, down in enumerate(self.down):
                x = down(x)
                if i < depth:
                    seen.append(x)
                    x = t.functional.max_pool2d(x, 2)
            for i in reversed(range(depth)):
                x = self.join[i](torch.cat([seen[i], self.up[i](x)], 1))
            return self.head(x)

    return UNet()


def _fcn32s(trunk: Any, k: int = 21) -> Any:
    t: Any = importlib.import_module("torch.nn")

    enlarge = t.Upsample(scale_factor=32, mode="bilinear", align_corners=False)
    return t.Sequential(*list(trunk.children())[:-2], t.Conv2d(2048, k, 1), enlarge)


def _deconvnet(k: int = 21, middle: int = 4096) -> Any:
    t: Any = importlib.import_module("torch.nn")

    def up(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> Any:
        conv = t.ConvTranspose2d(inputs, outputs, kernel, padding=padding, bias=False)
        return t.Sequential(conv, t.BatchNorm2d(outputs), t.ReLU(True))

    def dense(inputs: int, outputs: int, kernel: int) -> Any:
        conv = t.Conv2d(inputs, outputs, kernel, bias=False)
        return t.Sequential(conv, t.BatchNorm2d(outputs), t.ReLU(True))

    stages = [[3, 64, 64], [64, 128, 128], [128, 256, 256, 256], [256, 512, 512, 512], [512, 512, 512, 512]]

    class DeconvNet(t.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = [list(zip(c, c[1:], strict=False)) for c in stages]
            self.down = t.ModuleList(t.Sequential(*(_unit(i, o, t.ReLU(True)) for i, o in stage)) for stage in pairs)
            self.middle = t.Sequential(dense(512, middle, 7), dense(middle, middle, 1), up(middle, 512, 7, 0))
            self.up = t.ModuleList(
                t.Sequential(*(up(o, i) if i > 3 else t.ConvTranspose2d(o, k, 3, padding=1) for i, o in stage[::-1]))
                for stage in pairs[::-1]
            )

        def forward(self, x: Any) -> Any:
            positions = []
            for stage in self.down:
                x, where = t.functional.max_pool2d(stage(x), 2, return_indices=True)
                positions.append(where)
            x = self.middle(x)
            for stage in self.up:
                x = stage(t.functional.max_unpool2d(x, positions.pop(), 2))
            return x

    return DeconvNet()


def _yolo(channels: tuple[int, ...] = (32, 64, 128), depths: tuple[int, ...] = (1, 2, 2), neck: int = 64) -> Any:
    torch: Any = importlib.import_module("torch")
    t: Any = importlib.import_module("torch.nn")

    def unit(inputs: int, outputs: int, **options: int) -> Any:
        return _unit(inputs, outputs, t.LeakyReLU(0.1, True), **options)

    class Residual(t.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.inside = t.Sequential(unit(c, c // 2, kernel=1), unit(c // 2, c))

        def forward(self, x: Any) -> Any:
            return x + self.inside(x)

    class YOLO(t.Module):
        def __init__(self) -> None:
            super().__init__()
            inputs = (12, *channels)
            self.stages = t.ModuleList(
                t.Sequential(unit(i, o, stride=2), *(Residual(o) for _ in range(d)))
                for i, o, d in zip(inputs, channels, depths, strict=False)
            )
            self.reduce = unit(channels[-1], neck // 2, kernel=1)
            self.neck = unit(neck // 2 + channels[1], neck)
            self.head = t.Conv2d(neck, 5 * 15, 1)

        def forward(self, x: Any) -> Any:
            x = t.functional.pixel_unshuffle(x, 2)
            kept = []
            for stage in self.stages:
                x = stage(x)
                kept.append(x)
            coarse = t.functional.interpolate(self.reduce(x), scale_factor=2, mode="nearest")
            return self.head(self.neck(torch.cat([kept[1], coarse], 1)))

    return YOLO()


def _detector(network: Any, anchor_boxes: tuple[tuple[float, float], ...], size: int, k: int = 10) -> Any:
    """A YOLO from images to boxes: decoded as a batch, non-maximum suppression image by image by torchvision."""
    torch: Any = importlib.import_module("torch")
    torchvision: Any = importlib.import_module("torchvision")

    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("anchors", torch.tensor(anchor_boxes))

        def forward(self, pictures: Any) -> Any:
            said = self.network(pictures)
            b, _, rows, columns = said.shape
            said = said.view(b, len(anchor_boxes), 5 + k, rows, columns).permute(0, 3, 4, 1, 2)
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            cells = torch.stack([x, y], -1).view(1, rows, columns, 1, 2)
            centres = (said[..., :2].sigmoid() + cells) * (size / rows)
            halves = self.anchors * said[..., 2:4].clamp(max=4.135).exp() / 2
            boxes = torch.cat([centres - halves, centres + halves], -1).clamp(0, size).reshape(b, -1, 4)
            scores = (said[..., 4:5].sigmoid() * said[..., 5:].softmax(-1)).reshape(b, -1)
            best, index = scores.topk(400)
            found = []
            for picture in range(b):
                box, label = boxes[picture, index[picture] // k], index[picture] % k
                kept = torchvision.ops.batched_nms(box, best[picture], label, 0.5)[:100]
                found.append((box[kept], best[picture, kept], label[kept]))
            return found

    return Detector()


def _flax_conv(o: dict[str, Any], x: Any) -> Any:
    """`layers.Conv` by Flax, and so by `lax.conv_general_dilated`."""
    import flax.linen as nn

    padding = o["padding"]
    kernel_size = (o["kernel_size"],) * 2 if isinstance(o["kernel_size"], int) else o["kernel_size"]
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2
    return nn.Conv(
        o["features"],
        kernel_size,
        o["strides"],
        padding.upper() if isinstance(padding, str) else padding,
        kernel_dilation=o["dilation"],
        feature_group_count=o["groups"],
        use_bias=o["use_bias"],
    )(x)


def use_flax_layers() -> None:
    """Replace the layers of jaxcv's networks by Flax's, for the rest of the process."""
    import flax.linen as nn

    from jaxcv.models import layers

    def call(make: Callable[..., Any]) -> Callable[..., Any]:
        return nn.compact(make)

    def conv(self: Any, x: Any) -> Any:
        fields = [field for field in type(self).__dataclass_fields__ if field not in ("parent", "name")]
        return _flax_conv({field: getattr(self, field) for field in fields}, x)

    def norm(self: Any, x: Any, *, train: bool) -> Any:
        return nn.BatchNorm(use_running_average=not train, momentum=self.momentum, epsilon=self.epsilon)(x)

    def transposed(self: Any, x: Any) -> Any:
        kernel_size, strides = ((v, v) if isinstance(v, int) else v for v in (self.kernel_size, self.strides))
        return nn.ConvTranspose(self.features, kernel_size, strides, "VALID", use_bias=self.use_bias)(x)

    def pool(self: Any, x: Any) -> Any:
        window = (self.window,) * 2 if isinstance(self.window, int) else self.window
        strides = window if self.strides is None else self.strides
        padding = layers._ceiling(x, window, strides, self.padding) if self.ceil_mode else self.padding
        padding = ((padding, padding),) * 2 if isinstance(padding, int) else padding
        return nn.max_pool(
            x,
            window,
            (strides,) * 2 if isinstance(strides, int) else strides,
            padding.upper() if isinstance(padding, str) else padding,  # type: ignore[arg-type]
        )

    layers.Conv.__call__ = call(conv)
    layers.BatchNorm.__call__ = call(norm)
    layers.MaxPool.__call__ = call(pool)
    layers.ConvTranspose.__call__ = call(transposed)
